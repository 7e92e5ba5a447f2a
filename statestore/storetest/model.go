package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
)

func modelCases() []testCase {
	return []testCase{{"RandomCallsAnswerAsMemstoreDoes", randomCalls}}
}

// randomCalls makes the same random calls to the store and to memstore: valid ones, stale ones and repeated ones, on two
// slots. Answers are equal but for MaxFrom, which may be too large after a sweep.
func randomCalls(f *fixture) {
	seed := Seed(f.T)
	const rounds, steps = 4, 250
	for round := range uint64(rounds) {
		m := &model{fixture: f, rng: rand.New(rand.NewPCG(seed, round)), oracle: memstore.New(), swept: map[statestore.Slot]bool{}}
		a, b := newSlot(), newSlot()
		b.Pipeline = a.Pipeline
		m.slots = []statestore.Slot{a, b}
		for step := range steps {
			m.step()
			if f.Failed() {
				f.Fatalf("after round %d, step %d of TIDEMARK_SEED=%d", round, step, seed)
			}
		}
		for _, s := range m.slots {
			f.must("drop", f.store.Drop(f.ctx, s))
		}
	}
}

// Seed returns TIDEMARK_SEED, or a random seed if it is not set, and prints it.
func Seed(t *testing.T) uint64 {
	t.Helper()
	s := rand.Uint64()
	if v := os.Getenv("TIDEMARK_SEED"); v != "" {
		if _, err := fmt.Sscan(v, &s); err != nil {
			t.Fatalf("TIDEMARK_SEED=%s: %v", v, err)
		}
	}
	t.Logf("TIDEMARK_SEED=%d", s)
	return s
}

type model struct {
	*fixture
	rng    *rand.Rand
	oracle *memstore.Store
	slots  []statestore.Slot
	slot   statestore.Slot // of the present step
	tokens []statestore.Token
	raises []statestore.Raise
	swept  map[statestore.Slot]bool // since it was made
}

func (m *model) step() {
	m.slot = m.slots[m.rng.IntN(len(m.slots))]
	switch n := m.rng.IntN(100); {
	case n < 45:
		m.commit()
	case n < 60:
		m.raise()
	case n < 70:
		m.restore()
	case n < 84:
		m.sweep()
	case n < 95:
		m.indexAndRead()
	case n < 97:
		m.imports()
	case n < 98:
		m.agree("drop", m.oracle.Drop(m.ctx, m.slot), m.store.Drop(m.ctx, m.slot))
	default:
		want, errWant := m.oracle.Slots(m.ctx, m.slot.Pipeline)
		got, err := m.store.Slots(m.ctx, m.slot.Pipeline)
		m.agree("slots", errWant, err)
		for _, s := range [][]statestore.Slot{want, got} {
			for i := range s {
				s[i].Topic = ""
			}
		}
		m.equal("slots", sorted(want), sorted(got))
	}
	m.compare()
}

// compare compares everything in the slot.
func (m *model) compare() {
	m.Helper()
	want, errWant := readContents(m.ctx, m.oracle, m.slot)
	got, err := readContents(m.ctx, m.store, m.slot)
	m.agree("contents", errWant, err)
	if m.swept[m.slot] && len(want.Status.Slices) == len(got.Status.Slices) {
		for i, s := range want.Status.Slices {
			if g := &got.Status.Slices[i]; g.MaxFrom > s.MaxFrom {
				g.MaxFrom = s.MaxFrom
			}
		}
	}
	m.equal("contents", want, got)
}

// agree compares what two errors say to a caller.
func (m *model) agree(what string, want, got error) {
	m.Helper()
	for _, sentinel := range []error{
		statestore.ErrNoSlot, statestore.ErrConflict, statestore.ErrRefused, statestore.ErrFormat, statestore.ErrInvalid, statestore.ErrExists,
	} {
		if errors.Is(want, sentinel) != errors.Is(got, sentinel) {
			m.Errorf("%s of %s: %v, want %v", what, m.slot, got, want)
			return
		}
	}
	if (want == nil) != (got == nil) {
		m.Errorf("%s of %s: %v, want %v", what, m.slot, got, want)
	}
}

// head is the oracle's; a zero one if there is no slot.
func (m *model) head() statestore.Meta {
	h, err := m.oracle.Load(m.ctx, m.slot)
	if err != nil && !errors.Is(err, statestore.ErrNoSlot) {
		m.Fatal(err)
	}
	return h
}

// sometimes is true once in n.
func (m *model) sometimes(n int) bool { return m.rng.IntN(n) == 0 }

// near returns v, or sometimes a number beside it, not below 0.
func (m *model) near(v int64) int64 {
	if m.sometimes(6) {
		v += m.rng.Int64N(41) - 20
	}
	return max(v, 0)
}

// token returns want, or sometimes one that was seen before or never.
func (m *model) token(want statestore.Token) statestore.Token {
	switch {
	case m.sometimes(12):
		return newToken()
	case m.sometimes(8) && len(m.tokens) > 0:
		return m.tokens[m.rng.IntN(len(m.tokens))]
	}
	return want
}

func (m *model) fresh() statestore.Token {
	t := newToken()
	m.tokens = append(m.tokens, t)
	return t
}

func (m *model) slice() statestore.SliceID {
	if m.sometimes(5) {
		return statestore.SliceID{Window: []uint16{statestore.ListRefused, statestore.ListOutbox, statestore.ListCounts}[m.rng.IntN(3)]}
	}
	return statestore.SliceID{Window: uint16(m.rng.IntN(2)), Start: event.Time(m.rng.IntN(4)-2) * 60_000}
}

func (m *model) delta(id statestore.SliceID, from, to int64, bucket uint8) statestore.Delta {
	d := delta(id, from, to, bucket)
	d.Owned = m.rng.Int64N(1 << 32)
	d.Payload = make([]byte, []int{0, 3, 100, 300, 2000}[m.rng.IntN(5)])
	fill := byte(m.rng.Uint32())
	for i := range d.Payload {
		if fill++; m.sometimes(3) {
			fill = byte(m.rng.Uint32())
		}
		d.Payload[i] = fill
	}
	return d
}

func (m *model) commit() {
	h := m.head()
	c := statestore.Commit{
		Applied: m.near(h.Applied), Top: m.token(h.Top.Token), MaxTime: event.Time(m.rng.Int64N(200_000) - 100_000),
		Now: event.Time(m.rng.Int64N(1000)),
	}
	c.To = c.Applied + m.rng.Int64N(20)
	if m.sometimes(4) {
		c.MaxTime, c.Now = event.MinTime, event.MinTime
	}
	largest := map[statestore.SliceID]int64{}
	if st, err := m.oracle.Status(m.ctx, m.slot); err == nil {
		for _, s := range st.Slices {
			largest[s.ID] = s.MaxFrom
		}
	}
	for range m.rng.IntN(6) {
		id := m.slice()
		from := max(c.Applied+m.rng.Int64N(c.To-c.Applied+1), largest[id])
		if from < c.To {
			c.Deltas = append(c.Deltas, m.delta(id, from, from+1+m.rng.Int64N(c.To-from), uint8(m.rng.IntN(3))))
		}
	}
	want, errWant := m.oracle.Commit(m.ctx, m.slot, c)
	got, err := m.store.Commit(m.ctx, m.slot, c)
	m.agree("commit", errWant, err)
	m.equal("head answered to a commit", want, got)
}

func (m *model) raise() {
	h := m.head()
	r := statestore.Raise{
		Token: m.fresh(), Watermark: h.Top.Watermark.Add(event.Span(m.rng.Int64N(30_000) - 2_000)), Base: h.Top.Token,
		BaseOffset: m.near(h.Top.Offset), Seen: m.near(h.Applied),
	}
	switch {
	case m.sometimes(3):
		r.Base, r.BaseOffset = h.Base.Token, m.near(h.Base.Offset)
	case m.sometimes(4):
		r.Base, r.Token = m.token(r.Base), m.token(r.Token)
	case m.sometimes(7) && len(m.raises) > 0:
		r = m.raises[m.rng.IntN(len(m.raises))]
	}
	m.raises = append(m.raises, r)
	want, errWant := m.oracle.Raise(m.ctx, m.slot, r)
	got, err := m.store.Raise(m.ctx, m.slot, r)
	m.agree("raise", errWant, err)
	if errWant == nil {
		m.equal("head answered to a raise", want, got)
	}
}

func (m *model) restore() {
	h := m.head()
	r := statestore.Restore{
		Token: m.token(m.fresh()), Offset: m.near(h.Applied + 10), MaxTime: event.Time(m.rng.Int64N(100)), Now: event.Time(m.rng.Int64N(1000)),
		Watermark: h.Top.Watermark.Add(event.Span(m.rng.Int64N(3_000) - 500)), NoAdopt: m.sometimes(4),
	}
	if m.sometimes(3) {
		r.Token = h.Base.Token
	}
	r.ReplayFrom = max(r.Offset-m.rng.Int64N(50), 0)
	if r.Offset > 0 && m.sometimes(2) {
		r.Refused = append(r.Refused, m.delta(statestore.SliceID{Window: statestore.ListRefused}, r.Offset-1, r.Offset, 0))
	}
	want, outcomeWant, errWant := m.oracle.Restore(m.ctx, m.slot, r)
	got, outcome, err := m.store.Restore(m.ctx, m.slot, r)
	m.agree("restore", errWant, err)
	m.equal("head answered to a restore", want, got)
	m.equal("outcome", outcomeWant.String(), outcome.String())
	if outcome == statestore.Wiped || outcome == statestore.Created {
		m.swept[m.slot] = false
	}
}

// sweep does one thing to each of some slices. A replacement takes the place of a list's deltas up to an offset, in one or
// several buckets, as compaction does.
func (m *model) sweep() {
	st, err := m.oracle.Status(m.ctx, m.slot)
	if err != nil {
		m.agree("sweep", err, m.store.Sweep(m.ctx, m.slot, statestore.Sweep{}))
		return
	}
	s := statestore.Sweep{Token: m.token(st.Top.Token)}
	for _, info := range st.Slices {
		switch m.rng.IntN(6) {
		case 0:
			s.Drop = append(s.Drop, info.ID)
		case 1:
			s.Trim = append(s.Trim, statestore.Trim{Slice: info.ID, To: m.near(st.Applied) - m.rng.Int64N(20)})
		case 2, 3:
			if r, ok := m.replace(info.ID, st); ok {
				s.Replace = append(s.Replace, r)
			}
		}
	}
	m.agree("sweep", m.oracle.Sweep(m.ctx, m.slot, s), m.store.Sweep(m.ctx, m.slot, s))
	m.swept[m.slot] = true
}

func (m *model) replace(id statestore.SliceID, st statestore.Status) (statestore.Replace, bool) {
	refs, err := m.oracle.Index(m.ctx, m.slot, st.Top.Token, []statestore.SliceID{id})
	if err != nil {
		m.Fatal(err)
	}
	upTo := st.Applied - m.rng.Int64N(10)
	stay := func(r statestore.DeltaRef) bool { return r.To > upTo }
	r := statestore.Replace{Remove: slices.DeleteFunc(slices.Clone(refs), stay)}
	if len(r.Remove) == 0 {
		return r, false
	}
	from, buckets := r.Remove[0].From, m.rng.IntN(4)
	for b := range uint8(buckets) {
		taken := func(x statestore.DeltaRef) bool { return stay(x) && x.From == from && x.Bucket == b }
		if !slices.ContainsFunc(refs, taken) {
			r.With = append(r.With, m.delta(id, from, upTo, b))
		}
	}
	if m.sometimes(8) { // an index from before another compaction
		r.Remove[m.rng.IntN(len(r.Remove))].To++
	}
	m.rng.Shuffle(len(r.Remove), func(i, j int) { r.Remove[i], r.Remove[j] = r.Remove[j], r.Remove[i] })
	return r, true
}

func (m *model) indexAndRead() {
	h := m.head()
	token := m.token(h.Base.Token)
	var ids []statestore.SliceID
	for range m.rng.IntN(8) {
		if id := m.slice(); !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	want, errWant := m.oracle.Index(m.ctx, m.slot, token, ids)
	got, err := m.store.Index(m.ctx, m.slot, token, ids)
	m.agree("index", errWant, err)
	m.equal("index", want, got)
	m.rng.Shuffle(len(want), func(i, j int) { want[i], want[j] = want[j], want[i] })
	if len(want) > 0 && m.sometimes(4) {
		want[m.rng.IntN(len(want))].To++
	}
	payloads, errWant := m.oracle.Read(m.ctx, m.slot, token, want)
	gotPayloads, err := m.store.Read(m.ctx, m.slot, token, want)
	m.agree("read", errWant, err)
	m.equal("payloads", payloads, gotPayloads)
}

// imports takes an image of one slot and imports it, where it was or into the other slot; where a slot is, both stores refuse.
func (m *model) imports() {
	all, err := readContents(m.ctx, m.oracle, m.slot)
	if errors.Is(err, statestore.ErrNoSlot) {
		return
	}
	m.must("contents", err)
	image := imageOf(all)
	switch {
	case m.sometimes(3):
		m.slot = m.slots[m.rng.IntN(len(m.slots))]
	case m.sometimes(4) && len(image.Deltas) > 0:
		image.Deltas[m.rng.IntN(len(image.Deltas))].To = image.Applied + 1 // invalid, unless it is refused offsets
	}
	if !m.sometimes(4) {
		m.agree("drop", m.oracle.Drop(m.ctx, m.slot), m.store.Drop(m.ctx, m.slot))
	}
	m.rng.Shuffle(len(image.Deltas), func(i, j int) { image.Deltas[i], image.Deltas[j] = image.Deltas[j], image.Deltas[i] })
	want := m.oracle.Import(m.ctx, m.slot, image)
	m.agree("import", want, m.store.Import(m.ctx, m.slot, image))
	if want == nil {
		m.swept[m.slot] = false
	}
}
