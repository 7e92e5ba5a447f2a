package storetest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

func slotCases() []testCase {
	return []testCase{
		{"NoSlot", noSlot},
		{"AreIndependent", slotsIndependent},
		{"TopicNameIsNoPartOfTheIdentity", slotsTopicName},
		{"DropRemovesEverything", slotsDrop},
		{"AreListed", slotsListed},
		{"StatusTellsTheirSize", slotsSize},
		{"InvalidNamesAreRefused", slotsInvalid},
		{"ArgumentsAreNotKept", argumentsAreNotKept},
		{"AnswersBelongToTheCaller", answersBelongToTheCaller},
		{"CancelledCallsChangeNothing", cancelled},
	}
}

// calls makes every call that needs a slot, with arguments that would do something if there were one with that token and offset.
func calls(ctx context.Context, s statestore.Store, slot statestore.Slot, token statestore.Token, at int64) map[string]error {
	_, load := s.Load(ctx, slot)
	_, status := s.Status(ctx, slot)
	_, commit := s.Commit(ctx, slot, statestore.Commit{
		Applied: at, Top: token, To: at + 10, MaxTime: 1, Now: 1, Deltas: []statestore.Delta{delta(slice(0), at, at+10, 0)},
	})
	_, raise := s.Raise(ctx, slot, statestore.Raise{Token: newToken(), Watermark: event.MaxTime, Base: token})
	_, index := s.Index(ctx, slot, token, []statestore.SliceID{slice(0)})
	_, read := s.Read(ctx, slot, token, refsOf(delta(slice(0), 0, 10, 0)))
	sweep := s.Sweep(ctx, slot, statestore.Sweep{Token: token, Drop: []statestore.SliceID{slice(0)}})
	return map[string]error{
		"load": load, "status": status, "commit": commit, "raise": raise, "index": index, "read": read, "sweep": sweep,
	}
}

func noSlot(f *fixture) {
	for what, err := range calls(f.ctx, f.store, f.slot, newToken(), 0) {
		f.fails(what, err, statestore.ErrNoSlot)
	}
	f.must("drop of no slot", f.store.Drop(f.ctx, f.slot))
	f.equal("slots", []statestore.Slot{}, f.slots(f.slot.Pipeline))
	f.create(0) // what was refused above is accepted now
	for what, err := range calls(f.ctx, f.store, f.slot, f.load().Top.Token, 0) {
		if errors.Is(err, statestore.ErrNoSlot) {
			f.Errorf("%s of a slot that is there: %v", what, err)
		}
	}
}

// neighbours are slots that differ from one another in one part of their identity.
func neighbours(s statestore.Slot) []statestore.Slot {
	pipeline, shard, topic, partition := s, s, s, s
	pipeline.Pipeline = newSlot().Pipeline
	shard.Shard = 1
	topic.TopicID[15] ^= 1
	partition.Partition++
	return []statestore.Slot{s, pipeline, shard, topic, partition}
}

// slotsSize fills lists with payloads that no codec makes shorter. A short list has payloads of any size, and its size is exact; a
// long one has payloads of one size, so that any estimate that keeps the contract is exact as well.
func slotsSize(f *fixture) {
	const (
		short, long = 16, 400
		size        = 1000
		most        = 32 // what the stored form of a payload has more than the payload
	)
	f.create(0)
	random := rand.New(rand.NewPCG(1, 2))
	payload := func(n int) []byte {
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(random.Uint32())
		}
		return p
	}
	want := map[statestore.SliceID]int{}
	for from := range int64(long) {
		d := delta(slice(60), from, from+1, 0)
		d.Payload = payload(size)
		deltas := []statestore.Delta{d}
		if from < short {
			e := delta(slice(0), from, from+1, 0)
			e.Payload = payload(int(from * 37 % 300))
			deltas = append([]statestore.Delta{e}, d)
		}
		for _, d := range deltas {
			want[d.Slice] += len(d.Payload)
		}
		f.append(from+1, deltas...)
	}
	st, err := f.store.Status(f.ctx, f.slot)
	f.must("status", err)
	for _, s := range st.Slices {
		least := int64(want[s.ID])
		if s.Bytes < least || s.Bytes > least+int64(most*s.Deltas) {
			f.Errorf("%d deltas of slice %s have %d bytes, want %d and at most %d for each more", s.Deltas, s.ID.Start, s.Bytes, least, most)
		}
	}
	f.equal("slices", 2, len(st.Slices))
	f.sweep(statestore.Sweep{Token: st.Top.Token, Drop: []statestore.SliceID{slice(60)}})
	st, err = f.store.Status(f.ctx, f.slot)
	f.must("status", err)
	if len(st.Slices) != 1 || st.Slices[0].Bytes > int64(want[slice(0)]+most*short) {
		f.Errorf("after a sweep: %+v", st.Slices)
	}
}

func slotsIndependent(f *fixture) {
	all := neighbours(f.slot)
	want := make([]contents, len(all))
	f.Cleanup(func() { f.must("drop", f.store.Drop(f.ctx, all[1])) })
	for i, s := range all {
		g := *f
		g.slot = s
		g.create(int64(100 * i))
		g.append(int64(100*i+50), delta(slice(event.Time(i)), int64(100*i), int64(100*i+50), uint8(i)), delta(slice(0), int64(100*i), int64(100*i+9), 0))
		want[i] = g.contents()
	}
	check := func(but int) {
		f.Helper()
		for i, s := range all {
			if i != but {
				got, err := readContents(f.ctx, f.store, s)
				f.must("contents", err)
				f.equal("another slot", want[i], got)
			}
		}
	}
	check(-1)
	for i, s := range all {
		g := *f
		g.slot = s
		g.raise(77)
		g.append(int64(100*i+60), delta(slice(0), int64(100*i+50), int64(100*i+60), 0))
		g.sweep(statestore.Sweep{Drop: []statestore.SliceID{slice(event.Time(i))}})
		check(i)
		r := plan()
		r.Offset = 0
		g.restore(r, statestore.Wiped)
		check(i)
		f.must("drop", f.store.Drop(f.ctx, s))
		check(i)
		g.create(int64(100 * i))
		g.append(int64(100*i+50), delta(slice(event.Time(i)), int64(100*i), int64(100*i+50), uint8(i)), delta(slice(0), int64(100*i), int64(100*i+9), 0))
		want[i] = g.contents()
	}
}

func slotsTopicName(f *fixture) {
	token := f.create(100)
	g := *f
	g.slot.Topic = ""
	f.equal("head", f.load(), g.load())
	g.slot.Topic = "orders.renamed"
	f.equal("head", f.load(), g.load())
	r := plan()
	r.Token = token
	g.restore(r, statestore.Present)
	f.must("drop", f.store.Drop(f.ctx, g.slot))
	_, err := f.store.Load(f.ctx, f.slot)
	f.fails("load", err, statestore.ErrNoSlot)
}

func slotsDrop(f *fixture) {
	twoSlices(f)
	f.must("drop", f.store.Drop(f.ctx, f.slot))
	_, err := f.store.Load(f.ctx, f.slot)
	f.fails("load", err, statestore.ErrNoSlot)
	f.equal("slots", []statestore.Slot{}, f.slots(f.slot.Pipeline))
	f.must("drop again", f.store.Drop(f.ctx, f.slot))
	f.create(7)
	f.holds("nothing of before")
}

func (f *fixture) slots(pipeline string) []statestore.Slot {
	f.Helper()
	got, err := f.store.Slots(f.ctx, pipeline)
	f.must("slots", err)
	for i, s := range got {
		if s.Topic != "" && s.Topic != f.slot.Topic {
			f.Errorf("topic of slot %s, want %q or nothing", s, f.slot.Topic)
		}
		got[i].Topic = ""
	}
	return sorted(got)
}

func sorted(s []statestore.Slot) []statestore.Slot {
	slices.SortFunc(s, func(a, b statestore.Slot) int {
		return cmp.Or(cmp.Compare(a.Pipeline, b.Pipeline), cmp.Compare(a.Shard, b.Shard),
			slices.Compare(a.TopicID[:], b.TopicID[:]), cmp.Compare(a.Partition, b.Partition))
	})
	return s
}

func slotsListed(f *fixture) {
	all := neighbours(f.slot)
	other := all[1].Pipeline
	f.Cleanup(func() { f.must("drop", f.store.Drop(f.ctx, all[1])) })
	var mine []statestore.Slot
	for _, s := range all {
		g := *f
		g.slot = s
		g.create(5)
		g.append(6, delta(slice(0), 5, 6, 0))
		if s.Topic = ""; s.Pipeline == f.slot.Pipeline {
			mine = append(mine, s)
		}
	}
	all[1].Topic = ""
	f.equal("slots of the pipeline", sorted(mine), f.slots(f.slot.Pipeline))
	f.equal("slots of the other pipeline", []statestore.Slot{all[1]}, f.slots(other))
	f.equal("slots of no pipeline that is there", []statestore.Slot{}, f.slots(newSlot().Pipeline))
	f.equal("slots of half a fingerprint", []statestore.Slot{}, f.slots(f.slot.Pipeline[:8]))
	every, err := f.store.Slots(f.ctx, "")
	f.must("slots", err)
	every = slices.DeleteFunc(every, func(s statestore.Slot) bool { return s.Pipeline != f.slot.Pipeline && s.Pipeline != other })
	for i := range every {
		every[i].Topic = ""
	}
	f.equal("slots of all pipelines", sorted(append(mine, all[1])), sorted(every))
}

func slotsInvalid(f *fixture) {
	for what, spoil := range map[string]func(s *statestore.Slot){
		"no fingerprint":       func(s *statestore.Slot) { s.Pipeline = "" },
		"upper case":           func(s *statestore.Slot) { s.Pipeline = "ABCDEF0123456789" },
		"bytes of a user":      func(s *statestore.Slot) { s.Pipeline = "{0123456789abcd}" },
		"a short fingerprint":  func(s *statestore.Slot) { s.Pipeline = s.Pipeline[1:] },
		"a negative shard":     func(s *statestore.Slot) { s.Shard = -1 },
		"a negative partition": func(s *statestore.Slot) { s.Partition = -1 },
	} {
		s := f.slot
		spoil(&s)
		for op, err := range calls(f.ctx, f.store, s, newToken(), 0) {
			f.fails(op+" with "+what, err, statestore.ErrInvalid)
		}
		_, _, err := f.store.Restore(f.ctx, s, plan())
		f.fails("restore with "+what, err, statestore.ErrInvalid)
		f.fails("drop with "+what, f.store.Drop(f.ctx, s), statestore.ErrInvalid)
	}
}

// argumentsAreNotKept writes over everything that was handed in.
func argumentsAreNotKept(f *fixture) {
	spoil := func(deltas []statestore.Delta) {
		for i := range deltas {
			clear(deltas[i].Payload)
			deltas[i] = statestore.Delta{}
		}
	}
	r := plan()
	r.Refused = []statestore.Delta{refused(430, 440)}
	f.restore(r, statestore.Created)
	spoil(r.Refused)
	deltas := []statestore.Delta{delta(slice(0), 420, 430, 0), delta(slice(0), 430, 440, 0)}
	f.append(440, deltas...)
	spoil(deltas)
	f.holds("after commit", delta(slice(0), 420, 430, 0), delta(slice(0), 430, 440, 0), refused(430, 440))
	s := statestore.Sweep{Replace: []statestore.Replace{{
		Remove: refsOf(delta(slice(0), 420, 430, 0)), With: []statestore.Delta{delta(slice(0), 420, 430, 5)},
	}}}
	f.sweep(s)
	spoil(s.Replace[0].With)
	f.holds("after sweep", delta(slice(0), 420, 430, 5), delta(slice(0), 430, 440, 0), refused(430, 440))
}

// answersBelongToTheCaller writes over everything that was handed out, to the end of its capacity.
func answersBelongToTheCaller(f *fixture) {
	f.create(100)
	want := []statestore.Delta{delta(slice(0), 100, 110, 0), delta(slice(0), 110, 120, 0)}
	f.append(120, want...)
	c := f.contents()
	for i, d := range slices.Backward(c.Deltas) { // backwards: what comes after a payload in memory is a later one
		for j := range d.Payload[:cap(d.Payload)] {
			d.Payload[:cap(d.Payload)][j] = byte(i)
		}
	}
	for i, d := range want {
		f.equal("a payload after writing over the others", bytes.Repeat([]byte{byte(i)}, len(d.Payload)), c.Deltas[i].Payload)
	}
	refs := f.index(c.Status.Top.Token, slice(0))
	clear(refs[:cap(refs)])
	clear(c.Status.Slices[:cap(c.Status.Slices)])
	f.holds("after writing over the answers", want...)
}

func cancelled(f *fixture) {
	token := f.create(100)
	f.append(110, delta(slice(0), 100, 110, 0))
	ctx, cancel := context.WithCancel(f.ctx)
	cancel()
	f.unchanged("cancelled calls", func() {
		errs := calls(ctx, f.store, f.slot, token, 110)
		_, _, errs["restore"] = f.store.Restore(ctx, f.slot, plan())
		errs["drop"] = f.store.Drop(ctx, f.slot)
		_, errs["slots"] = f.store.Slots(ctx, f.slot.Pipeline)
		for what, err := range errs {
			f.fails(what, err, context.Canceled)
		}
	})
	for what, err := range calls(f.ctx, f.store, f.slot, token, 110) {
		if errors.Is(err, context.Canceled) {
			f.Errorf("%s after it: %v", what, err)
		}
	}
}
