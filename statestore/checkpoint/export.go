package checkpoint

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/fnv"
	"io"
	"time"

	"github.com/llm-auto-optimizer/tidemark/statestore"
)

const (
	attempts   = 8                     // at one slot
	firstPause = 20 * time.Millisecond // before the second of them; each later one is twice as long
	indexBy    = 5_000                 // deltas that are indexed at once, unless one list alone has more
	readBy     = 500                   // deltas whose payloads are read at once
	readBytes  = 8 << 20               // payloads read before they are written, about
)

// Source is what Export needs of a store.
type Source interface {
	Load(ctx context.Context, slot statestore.Slot) (statestore.Meta, error)
	Status(ctx context.Context, slot statestore.Slot) (statestore.Status, error)
	Index(ctx context.Context, slot statestore.Slot, token statestore.Token, slices []statestore.SliceID) ([]statestore.DeltaRef, error)
	Read(ctx context.Context, slot statestore.Slot, token statestore.Token, refs []statestore.DeltaRef) ([][]byte, error)
}

// Progress says how far an export or an import is.
type Progress struct {
	Slots, Of int   // done, of how many; Of is 0 where that is not known
	Deltas    int64 // written or read so far
	Bytes     int64
}

// Export writes a checkpoint of some slots, one after the other, to w; those that do not exist are left out. It only reads, so
// ingest and fire go on beside it, and it keeps the names of one slot's deltas and a page of payloads in memory. ErrChanging,
// with the slot, if plans changed one each time it was tried. What is in w after an error is no checkpoint.
func Export(ctx context.Context, store Source, w io.Writer, h Header, slots []statestore.Slot, report func(Progress)) (Totals, error) {
	buffered := bufio.NewWriterSize(w, 1<<20)
	cw, err := NewWriter(buffered, h)
	if err != nil {
		return Totals{}, err
	}
	e := &exporter{store: store, w: cw}
	e.progress = func(done int, deltas int64) {
		if report != nil {
			t := cw.Totals()
			report(Progress{Slots: done, Of: len(slots), Deltas: t.Deltas + deltas, Bytes: t.Bytes})
		}
	}
	for i, slot := range slots {
		e.done = i
		if err := e.slot(ctx, slot); err != nil {
			return Totals{}, fmt.Errorf("export %s: %w", slot, err)
		}
		e.progress(i+1, 0)
	}
	if err := cw.Close(); err != nil {
		return Totals{}, err
	}
	return cw.Totals(), buffered.Flush()
}

type exporter struct {
	store    Source
	w        *Writer
	done     int
	progress func(done int, deltas int64)
}

// errMoved says that the slot is not what it was when its head was read.
var errMoved = errors.New("it changed meanwhile")

// slot writes one slot, trying again where a plan came between.
func (e *exporter) slot(ctx context.Context, slot statestore.Slot) error {
	pause := firstPause
	for try := 1; ; try++ {
		st, err := e.store.Status(ctx, slot)
		if errors.Is(err, statestore.ErrNoSlot) {
			return nil
		}
		if err != nil {
			return err
		}
		err = e.try(ctx, slot, st)
		if err == nil {
			return e.w.End()
		}
		if !errors.Is(err, errMoved) && !errors.Is(err, statestore.ErrRefused) && !errors.Is(err, statestore.ErrNoSlot) {
			return err
		}
		if err := e.w.Void(); err != nil {
			return err
		}
		if try == attempts {
			return fmt.Errorf("%d tries, the last: %w: %w", try, err, ErrChanging)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		pause *= 2
	}
}

// try writes what the slot had when its status was read. Commits that come after it only append, so they do no harm; raises,
// restores and sweeps do, and so does a store that goes back and is filled again. Heads before and after would not show the
// last: that the list of deltas is the same at the end as it was when it was read does.
func (e *exporter) try(ctx context.Context, slot statestore.Slot, st statestore.Status) error {
	if err := e.w.Begin(slot, st.Meta); err != nil {
		return err
	}
	pages := pagesOf(st.Slices)
	read, again := newRoll(st.Meta), newRoll(st.Meta)
	deltas := int64(0)
	for _, page := range pages {
		refs, err := e.store.Index(ctx, slot, st.Top.Token, page)
		if err != nil {
			return err
		}
		if refs, err = read.call(refs); err != nil {
			return err
		}
		if err := e.payloads(ctx, slot, st.Top.Token, refs, &deltas); err != nil {
			return err
		}
	}
	if err := e.unmoved(ctx, slot, st.Meta); err != nil {
		return err
	}
	for _, page := range pages {
		refs, err := e.store.Index(ctx, slot, st.Top.Token, page)
		if err != nil {
			return err
		}
		if _, err = again.call(refs); err != nil {
			return err
		}
	}
	if again.sum.Sum64() != read.sum.Sum64() {
		return fmt.Errorf("other deltas than before: %w", errMoved)
	}
	return e.unmoved(ctx, slot, st.Meta)
}

// unmoved checks that the slot has the cuts of m and all that m has.
func (e *exporter) unmoved(ctx context.Context, slot statestore.Slot, m statestore.Meta) error {
	now, err := e.store.Load(ctx, slot)
	switch {
	case err != nil:
		return err
	case now.Top != m.Top || now.Base != m.Base:
		return fmt.Errorf("other cuts than before: %w", errMoved)
	case now.Applied < m.Applied:
		return fmt.Errorf("offset %d, was %d: %w", now.Applied, m.Applied, errMoved)
	}
	return nil
}

// payloads reads deltas and writes them.
func (e *exporter) payloads(ctx context.Context, slot statestore.Slot, token statestore.Token, refs []statestore.DeltaRef, done *int64) error {
	by, batch := readBy, make([]statestore.Delta, 0, readBy)
	for len(refs) > 0 {
		n := min(by, len(refs))
		found, err := e.store.Read(ctx, slot, token, refs[:n])
		if err != nil {
			return err
		}
		batch = batch[:0]
		size := 1
		for i, p := range found {
			batch = append(batch, statestore.Delta{Ref: refs[i], Payload: p})
			size += len(p)
		}
		if err := e.w.Add(batch); err != nil {
			return err
		}
		by = max(1, min(readBy, readBytes/(size/n+1))) // as many as are about readBytes, going by the last ones
		refs = refs[n:]
		*done += int64(n)
		e.progress(e.done, *done)
	}
	return nil
}

// pagesOf divides the lists of a slot into portions to index.
func pagesOf(infos []statestore.SliceInfo) [][]statestore.SliceID {
	var pages [][]statestore.SliceID
	count := indexBy
	for _, s := range infos {
		if count+s.Deltas > indexBy {
			pages, count = append(pages, nil), 0
		}
		last := &pages[len(pages)-1]
		*last = append(*last, s.ID)
		count += s.Deltas
	}
	return pages
}

// roll calls the names of the deltas that belong to a head.
type roll struct {
	head statestore.Meta
	sum  hash.Hash64
	name []byte
}

func newRoll(m statestore.Meta) *roll { return &roll{head: m, sum: fnv.New64a()} }

// call returns those of refs that the head covers. No commit divides what was one batch, so a delta across its Applied is of
// another history.
func (r *roll) call(refs []statestore.DeltaRef) ([]statestore.DeltaRef, error) {
	mine := refs[:0]
	for _, ref := range refs {
		if !r.head.Covers(ref) {
			if ref.From < r.head.Applied {
				return nil, fmt.Errorf("a delta [%d, %d) across offset %d: %w", ref.From, ref.To, r.head.Applied, errMoved)
			}
			continue
		}
		r.name = statestore.AppendField(statestore.AppendSlice(r.name[:0], ref.Slice), ref)
		r.name = binary.AppendUvarint(r.name, uint64(len(r.name)))
		r.sum.Write(r.name) //nolint:gosec // a hash takes everything
		mine = append(mine, ref)
	}
	return mine, nil
}
