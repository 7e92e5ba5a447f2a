package ops

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/window"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/checkpoint"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
)

const (
	maxDifferences = 50        // in an answer, for each partition
	maxImage       = 256 << 20 // compressed bytes of a slot that is held in memory
	planTries      = 3         // how often a slot is read again because a plan came between
	refoldPart     = 20_000    // offsets folded before the time is looked at
)

// Verified says whether the state is what the log says, and whether the books balance.
type Verified struct {
	OK      bool             `json:"ok"`      // nothing that was compared differs
	Partial bool             `json:"partial"` // something was not compared; states and notes say what
	Slots   []SlotVerified   `json:"partitions"`
	Ledger  []PipelineLedger `json:"ledger"`
}

// SlotVerified is one partition, folded again.
type SlotVerified struct {
	Pipeline    string       `json:"pipeline"`
	Topic       string       `json:"topic"`
	Partition   int32        `json:"partition"`
	State       string       `json:"state"` // equal, different, unsettled, skipped, partial
	Note        string       `json:"note,omitempty"`
	Plan        int64        `json:"plan"`
	From        int64        `json:"from"` // offsets folded again
	To          int64        `json:"to"`
	Reached     int64        `json:"reached"`
	Compared    int          `json:"compared_groups"`
	Differences []Difference `json:"differences"`
	More        int          `json:"more_differences,omitempty"`
}

// Difference is something that the store does not have as the log says.
type Difference struct {
	What   string `json:"what"`
	Window string `json:"window,omitempty"`
	Start  string `json:"start,omitempty"`
	End    string `json:"end,omitempty"`
	Key    string `json:"key,omitempty"`
}

func (s *SlotVerified) differ(d Difference) {
	if len(s.Differences) == maxDifferences {
		s.More++
		return
	}
	s.Differences = append(s.Differences, d)
}

// Verify folds the log again, from where the committed plan would be restored to what each slot has applied, and compares what is
// open with the slot; and it checks the books. The functions go on meanwhile.
func (h *Handler) Verify(ctx context.Context, sel Selection) (*Verified, error) {
	pipes, err := h.pipelines(sel.Pipeline)
	if err != nil {
		return nil, err
	}
	out := &Verified{OK: true, Slots: []SlotVerified{}, Ledger: []PipelineLedger{}}
	for _, p := range pipes {
		parts, err := h.partitions(ctx, p, sel)
		if err != nil {
			return nil, fmt.Errorf("pipeline %s: %w", p.Name, err)
		}
		for _, part := range parts {
			v := &verify{Handler: h, pipe: p, part: part, out: &SlotVerified{
				Pipeline: p.Name, Topic: part.Topic, Partition: part.TopicPartition.Partition, Differences: []Difference{},
			}}
			if err := v.run(ctx); err != nil {
				if ctx.Err() == nil {
					return nil, fmt.Errorf("%s: %w", name(p, part.TopicPartition), err)
				}
				v.out.State, v.out.Note = "partial", fmt.Sprintf("the time was up at offset %d of %d; name the partition, or give the function more time", v.out.Reached, v.out.To)
			}
			out.OK = out.OK && v.out.State != "different"
			out.Partial = out.Partial || v.out.State != "different" && v.out.State != "equal"
			out.Slots = append(out.Slots, *v.out)
		}
	}
	books, err := h.ledger(ctx, pipes)
	if err != nil && ctx.Err() == nil {
		return nil, err
	}
	out.Partial = out.Partial || err != nil
	for _, b := range books {
		out.OK = out.OK && len(b.Problems) == 0
		out.Partial = out.Partial || b.Note != ""
	}
	out.Ledger = append(out.Ledger, books...)
	return out, nil
}

// verify is the work on one slot.
type verify struct {
	*Handler
	pipe  *pipeline.Pipeline
	part  kafkaio.Partition
	slot  statestore.Slot
	out   *SlotVerified
	base  apply.Base
	log   frozen
	live  *memstore.Store
	fresh *memstore.Store
	head  statestore.Meta // of the live slot's image
}

// frozen is a log whose group stays at one plan: one that is committed meanwhile must not change what is folded.
type frozen struct {
	kafkaio.Log
	group     string
	committed map[event.TopicPartition]kafkaio.Committed
}

// Group implements kafkaio.Log.
func (f frozen) Group(ctx context.Context, group string) (map[event.TopicPartition]kafkaio.Committed, error) {
	if group == f.group {
		return maps.Clone(f.committed), nil
	}
	return f.Log.Group(ctx, group)
}

func (v *verify) skip(format string, args ...any) error {
	v.out.State, v.out.Note = "skipped", fmt.Sprintf(format, args...)
	return nil
}

func (v *verify) run(ctx context.Context) error {
	v.slot = apply.SlotID(v.pipe, v.part)
	goOn, err := v.image(ctx)
	if err != nil || !goOn {
		return err
	}
	offsets, err := v.Log.Offsets(ctx, []event.TopicPartition{v.part.TopicPartition})
	if err != nil {
		return fmt.Errorf("offsets: %w", err)
	}
	v.out.Plan, v.out.From, v.out.To, v.out.Reached = v.base.Plan, v.base.ReplayFrom, v.head.Applied, v.base.ReplayFrom
	if o := offsets[v.part.TopicPartition]; o.Start > v.base.ReplayFrom || o.Stable < v.head.Applied {
		return v.skip("the log has the offsets [%d, %d), and [%d, %d) would have to be folded", o.Start, o.Stable, v.base.ReplayFrom, v.head.Applied)
	}
	if err := v.fold(ctx); err != nil {
		return err
	}
	return v.compare(ctx)
}

// image takes a copy of the slot as it is at one offset, and the plan that it builds on. It is false if there is nothing to
// compare.
func (v *verify) image(ctx context.Context) (bool, error) {
	for range planTries {
		committed, err := v.Log.Group(ctx, v.pipe.Group())
		if err != nil {
			return false, fmt.Errorf("committed plan: %w", err)
		}
		v.log = frozen{v.Log, v.pipe.Group(), committed}
		plan, err := apply.ReadPlan(ctx, v.log, v.pipe)
		if err != nil {
			return false, err
		}
		base, ok := plan.Partitions[v.part.TopicPartition]
		switch {
		case plan.Ended:
			return false, v.skip("the pipeline has ended")
		case !ok:
			return false, v.skip("the partition has no genesis yet")
		case base.TopicID != v.part.TopicID:
			return false, v.skip("%s", apply.MadeAnew(v.part.TopicPartition, plan.Number))
		}
		v.base = base
		v.live = memstore.New()
		buf := &capped{}
		_, err = checkpoint.Export(ctx, v.Store, buf, Header(v.App, v.Pipelines, v.Clock()), []statestore.Slot{v.slot}, nil)
		switch {
		case errors.Is(err, errCapped):
			return false, v.skip("the slot has more than %d MB, which is too much to hold twice", maxImage>>20)
		case errors.Is(err, checkpoint.ErrChanging):
			continue
		case errors.Is(err, statestore.ErrFormat):
			v.out.State = "different"
			v.out.differ(Difference{What: "unreadable: " + err.Error()})
			return false, nil
		case err != nil:
			return false, fmt.Errorf("read the slot: %w", err)
		}
		all := func(statestore.Slot, statestore.Meta) bool { return true }
		if _, err = checkpoint.Import(ctx, v.live, bytes.NewReader(buf.Bytes()), all, func(checkpoint.Result) {}); err != nil {
			return false, fmt.Errorf("copy the slot: %w", err)
		}
		v.head, err = v.live.Load(ctx, v.slot)
		switch {
		case errors.Is(err, statestore.ErrNoSlot):
			return false, v.skip("there is no slot: the next plan, or the next batch, restores it from the log")
		case err != nil:
			return false, err
		case v.head.HasCut(v.base.Token):
			return true, nil
		}
	}
	return false, v.skip("the slot does not build on plan %d, or plans came too fast to read one: the next plan restores what it has to; verify again", v.base.Plan)
}

// fold folds the log again into a store of its own: from the committed plan, with the fence that an unfinished plan has raised.
func (v *verify) fold(ctx context.Context) error {
	v.fresh = memstore.New()
	plan, err := apply.ReadPlan(ctx, v.log, v.pipe)
	if err != nil {
		return err
	}
	a := apply.New(apply.Deps{
		Pipeline: v.pipe, Store: v.fresh, Log: v.log, Errors: v.App.Errors, Buffer: v.App.BufferSize, Clock: v.Clock, Logger: v.Logger,
	})
	if _, err := a.Restore(ctx, v.part, plan); err != nil {
		return err
	}
	if v.head.Top.Token != v.base.Token {
		if err := v.upTo(ctx, a, v.head.Top.Offset); err != nil {
			return err
		}
		_, err := v.fresh.Raise(ctx, v.slot, statestore.Raise{
			Token: v.head.Top.Token, Watermark: v.head.Top.Watermark, Base: v.base.Token, BaseOffset: v.base.Offset, Seen: v.head.Top.Offset,
		})
		if err != nil {
			return fmt.Errorf("the slot's newest cut, (%d, %s), does not fit to plan %d: %w", v.head.Top.Offset, v.head.Top.Watermark, v.base.Plan, err)
		}
	}
	return v.upTo(ctx, a, v.head.Applied)
}

// upTo folds in parts, so that the answer can say how far it came.
func (v *verify) upTo(ctx context.Context, a *apply.Applier, to int64) error {
	for v.out.Reached < to {
		at, err := a.CatchUp(ctx, v.part, min(to, v.out.Reached+refoldPart), &apply.Work{})
		if err != nil {
			return err
		}
		v.out.Reached = at
	}
	return nil
}

// compare compares what still takes records at the newest fence; anything else may have been purged, or not yet.
func (v *verify) compare(ctx context.Context) error {
	live, err := v.live.Status(ctx, v.slot)
	if err != nil {
		return err
	}
	fresh, err := v.fresh.Status(ctx, v.slot)
	if err != nil {
		return err
	}
	if fresh.Applied != live.Applied {
		v.out.differ(Difference{What: fmt.Sprintf("applied %d; should be %d", live.Applied, fresh.Applied)})
	}
	if err := v.compareSlices(ctx, live, fresh); err != nil {
		return err
	}
	if err := v.compareBooks(ctx, live, fresh); err != nil {
		return err
	}
	switch {
	case len(v.out.Differences) == 0:
		v.out.State = "equal"
	case v.head.Top.Token != v.base.Token:
		// Plans that came to nothing before this one may have judged records by other fences, which nothing tells any more.
		v.out.State, v.out.Note = "unsettled", "a plan that is not committed yet has raised the fence; verify again after the next plan"
	default:
		v.out.State = "different"
	}
	return nil
}

func (v *verify) compareSlices(ctx context.Context, live, fresh statestore.Status) error {
	ids := map[statestore.SliceID]bool{}
	for _, st := range []statestore.Status{live, fresh} {
		for _, s := range st.Slices {
			if s.ID.Window < statestore.ListRefused {
				ids[s.ID] = true
			}
		}
	}
	// An aligned slice is compared by itself; of sessions, all buckets of a definition.
	sets := map[statestore.SliceID][]statestore.SliceID{}
	for id := range ids {
		if int(id.Window) >= len(v.pipe.Windows) {
			v.out.differ(Difference{What: fmt.Sprintf("a slice of window definition %d, which the pipeline does not have", id.Window)})
			continue
		}
		at := id
		if v.pipe.Windows[id.Window].Kind == window.KindSession {
			at.Start = 0
		}
		sets[at] = append(sets[at], id)
	}
	order := slices.SortedFunc(maps.Keys(sets), compareIDs)
	for _, at := range order {
		set := sets[at]
		slices.SortFunc(set, compareIDs)
		mine, err := v.view(ctx, v.live, live.Top.Token, set, true)
		if err != nil {
			return err
		}
		its, err := v.view(ctx, v.fresh, fresh.Top.Token, set, false)
		if err != nil {
			return err
		}
		n, err := mine.Compare(its, v.head.Top.Watermark, func(m pipeline.Mismatch) {
			v.out.differ(Difference{What: m.What, Window: m.Name, Start: m.Window.Start.String(), End: m.Window.End.String(), Key: m.Key})
		})
		if err != nil {
			return err
		}
		v.out.Compared += n
	}
	return nil
}

func compareIDs(a, b statestore.SliceID) int {
	if a.Window != b.Window {
		return int(a.Window) - int(b.Window)
	}
	switch {
	case a.Start < b.Start:
		return -1
	case a.Start > b.Start:
		return 1
	}
	return 0
}

// view reads slices. What cannot be read of the live slot is a difference.
func (v *verify) view(ctx context.Context, store statestore.Store, token statestore.Token, ids []statestore.SliceID, live bool) (*pipeline.View, error) {
	out, err := v.pipe.NewView(nil)
	if err != nil {
		return nil, err
	}
	err = readSlices(ctx, store, v.slot, token, ids, func(r statestore.DeltaRef, payload []byte) error {
		err := out.Add(r.Slice, payload)
		if err != nil && live {
			v.out.differ(Difference{What: fmt.Sprintf("delta [%d, %d) is unreadable: %s", r.From, r.To, err), Window: v.pipe.Windows[r.Slice.Window].Name, Start: r.Slice.Start.String()})
			return nil
		}
		return err
	})
	return out, err
}

// books is what a slot says of the records that no committed plan has.
type books struct {
	counts pipeline.Counts
	outbox map[pipeline.OutboxEntry]struct{}
}

func (v *verify) books(ctx context.Context, store statestore.Store, token statestore.Token) (books, error) {
	b := books{outbox: map[pipeline.OutboxEntry]struct{}{}}
	ids := []statestore.SliceID{{Window: statestore.ListCounts}, {Window: statestore.ListOutbox}}
	err := readSlices(ctx, store, v.slot, token, ids, func(r statestore.DeltaRef, payload []byte) error {
		if r.From < v.base.Offset {
			return nil
		}
		if r.Slice.Window == statestore.ListCounts {
			c, err := pipeline.DecodeCounts(payload)
			b.counts = b.counts.Add(c)
			return err
		}
		entries, err := pipeline.DecodeOutbox(nil, payload)
		for _, e := range entries {
			b.outbox[e] = struct{}{}
		}
		return err
	})
	return b, err
}

func (v *verify) compareBooks(ctx context.Context, live, fresh statestore.Status) error {
	mine, err := v.books(ctx, v.live, live.Top.Token)
	if err != nil {
		v.out.differ(Difference{What: "counts or outbox are unreadable: " + err.Error()})
		return nil //nolint:nilerr // it is what was looked for
	}
	its, err := v.books(ctx, v.fresh, fresh.Top.Token)
	if err != nil {
		return err
	}
	if mine.counts != its.counts {
		v.out.differ(Difference{What: fmt.Sprintf("counts since the committed plan %+v; should be %+v", mine.counts, its.counts)})
	}
	for e := range mine.outbox {
		if _, ok := its.outbox[e]; !ok {
			v.out.differ(Difference{What: fmt.Sprintf("outbox too much: offset %d, %s", e.Offset, e.Reason)})
		}
	}
	for e := range its.outbox {
		if _, ok := mine.outbox[e]; !ok {
			v.out.differ(Difference{What: fmt.Sprintf("outbox lacks offset %d, %s", e.Offset, e.Reason)})
		}
	}
	return nil
}

var errCapped = errors.New("ops: slot too large")

// capped is a buffer that does not grow for ever.
type capped struct{ bytes.Buffer }

// Write implements io.Writer.
func (c *capped) Write(b []byte) (int, error) {
	if c.Len()+len(b) > maxImage {
		return 0, errCapped
	}
	return c.Buffer.Write(b)
}
