package watermark

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

const none = event.MinTime

func tp(n int32) event.TopicPartition { return event.TopicPartition{Topic: "events", Partition: n} }

// at returns a partition that is caught up, with a largest time, and the wall clock of its last record.
func at(n int32, maxTime, lastRecordAt event.Time) Partition {
	return Partition{TopicPartition: tp(n), MaxTime: maxTime, Applied: 10, End: 10, LastRecordAt: lastRecordAt, Fence: none}
}

func lagging(p Partition) Partition { p.End = p.Applied + 5; return p }
func blocked(p Partition) Partition { p.Blocked = true; return p }
func fenced(p Partition, f event.Time) Partition {
	p.Fence = f
	return p
}

func TestLow(t *testing.T) {
	const now = 100_000
	idle := func(on AllIdle) Policy { return Policy{Bound: 10, IdleTimeout: 1000, AllIdle: on} }
	for _, c := range []struct {
		name  string
		p     Policy
		parts []Partition
		last  event.Time
		want  Decision
	}{
		{
			"no partitions: it stays",
			Policy{},
			nil, 7,
			Decision{Watermark: 7, Holder: Holder{Reason: ReasonNone}},
		},
		{
			"bounded: the largest time less the bound, exclusive",
			Policy{Bound: 10},
			[]Partition{at(0, 1337, now)},
			none,
			Decision{Watermark: 1327, Moved: true, Holder: Holder{tp(0), ReasonSlowest, 0, 0}},
		},
		{
			"bound 0: a record equal to the largest is not late",
			Policy{},
			[]Partition{at(0, 5, now)},
			none,
			Decision{Watermark: 5, Moved: true, Holder: Holder{tp(0), ReasonSlowest, 0, 0}},
		},
		{
			"the least of the partitions",
			Policy{Bound: 10},
			[]Partition{at(0, 2000, now), at(1, 500, now), at(2, 900, now)},
			none,
			Decision{Watermark: 490, Moved: true, Holder: Holder{tp(1), ReasonSlowest, 1500, 0}},
		},
		{
			"it never goes back",
			Policy{Bound: 10},
			[]Partition{at(0, 2000, now), at(1, 500, now)},
			600,
			Decision{Watermark: 600, Holder: Holder{tp(1), ReasonSlowest, 1500, 0}},
		},
		{
			"one that is back with old records is waited for (row 19)",
			Policy{Bound: 10},
			[]Partition{at(0, 2000, now), at(1, 1500, now), at(2, 500, now)},
			1000,
			Decision{Watermark: 1000, Holder: Holder{tp(2), ReasonSlowest, 1500, 0}},
		},
		{
			"or left out until it has caught up",
			Policy{Bound: 10, CatchUp: true},
			[]Partition{at(0, 2000, now), at(1, 1500, now), at(2, 500, now)},
			1000,
			Decision{Watermark: 1490, Moved: true, Holder: Holder{tp(1), ReasonSlowest, 500, 0}},
		},
		{
			"then it counts again",
			Policy{Bound: 10, CatchUp: true},
			[]Partition{at(0, 2000, now), at(1, 1500, now), at(2, 1010, now)},
			1000,
			Decision{Watermark: 1000, Holder: Holder{tp(2), ReasonSlowest, 990, 0}},
		},
		{
			"one without a record has nothing to catch up with",
			Policy{Bound: 10, CatchUp: true},
			[]Partition{at(0, 2000, now), at(1, none, now)},
			1000,
			Decision{Watermark: 1000, Holder: Holder{tp(1), ReasonNoRecordYet, 0, 0}},
		},
		{
			"where all have to catch up the slowest holds it",
			Policy{Bound: 10, CatchUp: true},
			[]Partition{at(0, 900, now), at(1, 500, now)},
			1000,
			Decision{Watermark: 1000, Holder: Holder{tp(1), ReasonSlowest, 400, 0}},
		},
		{
			"a lagging partition that has passed it does not stop it",
			Policy{},
			[]Partition{lagging(at(0, 500, now)), at(1, 600, now)},
			400,
			Decision{Watermark: 500, Moved: true, Holder: Holder{tp(0), ReasonLagging, 100, 5}},
		},
		{
			"a partition without a record yet holds it (row 16)", idle(Max),
			[]Partition{at(0, 500, now), at(1, none, now-999)},
			none,
			Decision{Watermark: none, Holder: Holder{tp(1), ReasonNoRecordYet, 0, 0}},
		},
		{
			"until its timeout, counted from its start (rows 16, 17)", idle(Max),
			[]Partition{at(0, 500, now), at(1, none, now-1000)},
			none,
			Decision{Watermark: 490, Moved: true, Holder: Holder{tp(0), ReasonSlowest, 0, 0}, Idle: []event.TopicPartition{tp(1)}},
		},
		{
			"without a timeout no partition is ever idle",
			Policy{AllIdle: Max},
			[]Partition{at(0, 500, 0), at(1, none, 0)},
			none,
			Decision{Watermark: none, Holder: Holder{tp(1), ReasonNoRecordYet, 0, 0}},
		},
		{
			"idle from the timeout on, not before (row 17)", idle(Max),
			[]Partition{at(0, 500, now), at(1, 100, now-999)},
			none,
			Decision{Watermark: 90, Moved: true, Holder: Holder{tp(1), ReasonSlowest, 400, 0}},
		},
		{
			"an idle partition is left out", idle(Max),
			[]Partition{at(0, 500, now), at(1, 100, now-1000)},
			none,
			Decision{Watermark: 490, Moved: true, Holder: Holder{tp(0), ReasonSlowest, 0, 0}, Idle: []event.TopicPartition{tp(1)}},
		},
		{
			"one that lags is not idle, however long it is quiet", idle(Max),
			[]Partition{at(0, 500, now), lagging(at(1, 100, 0))},
			none,
			Decision{Watermark: 90, Moved: true, Holder: Holder{tp(1), ReasonLagging, 400, 5}},
		},
		{
			"one that lags and has no record yet holds it", idle(Max),
			[]Partition{at(0, 500, now), lagging(at(1, none, 0))},
			none,
			Decision{Watermark: none, Holder: Holder{tp(1), ReasonLagging, 0, 5}},
		},
		{
			"an open transaction is not idle", idle(Max),
			[]Partition{at(0, 500, now), blocked(at(1, 100, 0))},
			95,
			Decision{Watermark: 95, Holder: Holder{tp(1), ReasonOpenTransaction, 400, 0}},
		},
		{
			"a partition that resumes with old data counts at once (row 19)", idle(Max),
			[]Partition{at(0, 5000, now-5), at(1, 700, now)},
			4000,
			Decision{Watermark: 4000, Holder: Holder{tp(1), ReasonSlowest, 4300, 0}},
		},
		{
			"all idle, hold", idle(Hold),
			[]Partition{at(0, 500, 0), at(1, 700, 0)},
			50,
			Decision{Watermark: 50, Holder: Holder{Reason: ReasonAllIdle}, Idle: []event.TopicPartition{tp(0), tp(1)}},
		},
		{
			"all idle, max (row 18)", idle(Max),
			[]Partition{at(1, 700, 0), at(0, 500, 0), at(2, none, 0)},
			50,
			Decision{Watermark: 690, Moved: true, Holder: Holder{Reason: ReasonAllIdle}, Idle: []event.TopicPartition{tp(0), tp(1), tp(2)}},
		},
		{
			"all idle, max, and no record anywhere", idle(Max),
			[]Partition{at(0, none, 0)},
			none,
			Decision{Watermark: none, Holder: Holder{Reason: ReasonAllIdle}, Idle: []event.TopicPartition{tp(0)}},
		},
		{
			"all idle, advance: the clock less timeout and bound", idle(Advance),
			[]Partition{at(0, 500, 0)},
			50,
			Decision{Watermark: now - 1010, Moved: true, Holder: Holder{Reason: ReasonAllIdle}, Idle: []event.TopicPartition{tp(0)}},
		},
		{
			"all idle, advance, and no record anywhere", idle(Advance),
			[]Partition{at(0, none, 0)},
			none,
			Decision{Watermark: now - 1010, Moved: true, Holder: Holder{Reason: ReasonAllIdle}, Idle: []event.TopicPartition{tp(0)}},
		},
		{
			"all idle, advance: not below the furthest partition", idle(Advance),
			[]Partition{at(0, 500, 0), at(1, now+5000, 0)},
			50,
			Decision{Watermark: now + 4990, Moved: true, Holder: Holder{Reason: ReasonAllIdle}, Idle: []event.TopicPartition{tp(0), tp(1)}},
		},
		{
			"one partition that is not idle decides alone", idle(Advance),
			[]Partition{at(0, 500, 0), at(1, 300, now)},
			50,
			Decision{Watermark: 290, Moved: true, Holder: Holder{tp(1), ReasonSlowest, 200, 0}, Idle: []event.TopicPartition{tp(0)}},
		},
		{
			"a fence that all have passed or caught up with",
			Policy{},
			[]Partition{fenced(at(0, 500, now), 450), at(1, 400, now)},
			300,
			Decision{Watermark: 450, Moved: true, Holder: Holder{tp(0), ReasonFence, 0, 0}},
		},
		{
			"a fence that a lagging partition has not passed: it waits",
			Policy{},
			[]Partition{fenced(at(0, 500, now), 450), lagging(at(1, 400, now))},
			300,
			Decision{Watermark: 300, Waiting: true, Holder: Holder{tp(1), ReasonLagging, 100, 5}},
		},
		{
			"a fence and an open transaction: it waits",
			Policy{},
			[]Partition{fenced(at(0, 500, now), 450), blocked(at(1, none, now))},
			none,
			Decision{Watermark: none, Waiting: true, Holder: Holder{tp(1), ReasonOpenTransaction, 0, 0}},
		},
		{
			"a fence below what the partitions allow does not matter",
			Policy{},
			[]Partition{fenced(at(0, 500, now), 450)},
			300,
			Decision{Watermark: 500, Moved: true, Holder: Holder{tp(0), ReasonSlowest, 0, 0}},
		},
		{
			"all idle and hold: a fence still has to be reached", idle(Hold),
			[]Partition{fenced(at(0, 500, 0), 450)},
			300,
			Decision{Watermark: 450, Moved: true, Holder: Holder{tp(0), ReasonFence, 0, 0}, Idle: []event.TopicPartition{tp(0)}},
		},
		{
			"periodic: the multiple below",
			Policy{Periodic: true, Interval: 100},
			[]Partition{at(0, 567, now)},
			none,
			Decision{Watermark: 500, Moved: true, Holder: Holder{tp(0), ReasonSlowest, 0, 0}},
		},
		{
			"periodic before 1970: below, not towards 0",
			Policy{Periodic: true, Interval: 100},
			[]Partition{at(0, -567, now)},
			none,
			Decision{Watermark: -600, Moved: true, Holder: Holder{tp(0), ReasonSlowest, 0, 0}},
		},
		{
			"periodic: between two multiples it stays",
			Policy{Periodic: true, Interval: 100},
			[]Partition{at(0, 599, now)},
			500,
			Decision{Watermark: 500, Holder: Holder{tp(0), ReasonInterval, 0, 0}},
		},
		{
			"periodic: fences and the last watermark are no multiples",
			Policy{Periodic: true, Interval: 100},
			[]Partition{fenced(at(0, 599, now), 533)},
			511,
			Decision{Watermark: 533, Moved: true, Holder: Holder{tp(0), ReasonFence, 0, 0}},
		},
		{
			"periodic before any record",
			Policy{Periodic: true, Interval: 100},
			[]Partition{at(0, none, now)},
			none,
			Decision{Watermark: none, Holder: Holder{tp(0), ReasonNoRecordYet, 0, 0}},
		},
		{
			"periodic, all idle, between two multiples",
			Policy{IdleTimeout: 1000, AllIdle: Max, Periodic: true, Interval: 100},
			[]Partition{at(0, 599, 0)},
			500,
			Decision{Watermark: 500, Holder: Holder{Reason: ReasonAllIdle}, Idle: []event.TopicPartition{tp(0)}},
		},
		{
			"a bound that reaches before all time saturates",
			Policy{Bound: 10},
			[]Partition{at(0, event.MinTime+5, now)},
			none,
			Decision{Watermark: none, Holder: Holder{tp(0), ReasonSlowest, 0, 0}},
		},
		{
			"of equal partitions, the one with most reason to look at",
			Policy{},
			[]Partition{at(0, 5, now), lagging(at(1, 5, now)), blocked(at(2, 5, now))},
			5,
			Decision{Watermark: 5, Holder: Holder{tp(2), ReasonOpenTransaction, 0, 0}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, Low(c.p, c.parts, c.last, now)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// scenario is a random input of Low. Small numbers make ties and boundaries likely.
type scenario struct {
	p     Policy
	parts []Partition
	last  event.Time
	now   event.Time
}

func randomScenario(r *rand.Rand) scenario {
	s := scenario{
		p: Policy{
			Bound:       event.Span(r.IntN(5)),
			IdleTimeout: event.Span(r.IntN(2) * (1 + r.IntN(20))),
			AllIdle:     []AllIdle{Advance, Hold, Max}[r.IntN(3)],
			Periodic:    r.IntN(3) == 0,
			Interval:    event.Span(1 + r.IntN(7)),
		},
		last: orNone(r), now: event.Time(r.IntN(60)),
	}
	for i := range r.IntN(5) {
		p := Partition{
			TopicPartition: event.TopicPartition{Topic: []string{"a", "b"}[r.IntN(2)], Partition: int32(i)},
			MaxTime:        orNone(r), Applied: 10, End: 9 + int64(r.IntN(3)), LastRecordAt: event.Time(r.IntN(60)),
			Fence: event.MinTime, Blocked: r.IntN(5) == 0,
		}
		if r.IntN(4) == 0 {
			p.Fence = orNone(r)
		}
		s.parts = append(s.parts, p)
	}
	return s
}

func orNone(r *rand.Rand) event.Time {
	if r.IntN(5) == 0 {
		return event.MinTime
	}
	return event.Time(r.IntN(40) - 10)
}

// lawful checks a law with many random scenarios and what Low says of them.
func lawful(t *testing.T, law func(r *rand.Rand, s scenario, d Decision) error) {
	t.Helper()
	r := seed.Rand(t)
	for range 30_000 {
		s := randomScenario(r)
		if err := law(r, s, Low(s.p, s.parts, s.last, s.now)); err != nil {
			t.Fatalf("%v\n%+v", err, s)
		}
	}
}

func TestItIsNeverBelowTheLastOne(t *testing.T) {
	lawful(t, func(_ *rand.Rand, s scenario, d Decision) error {
		if d.Watermark < s.last || d.Moved != (d.Watermark > s.last) || d.Moved && d.Waiting {
			return fmt.Errorf("last %d: %+v", int64(s.last), d)
		}
		return nil
	})
}

func TestItMovesOnlyToWhatEveryPartitionHasPassedOrCaughtUpWith(t *testing.T) {
	lawful(t, func(_ *rand.Rand, s scenario, d Decision) error {
		for _, p := range s.parts {
			passed := p.MaxTime != event.MinTime && p.MaxTime.Add(-s.p.Bound) >= d.Watermark
			caughtUp := p.Applied >= p.End && !p.Blocked
			if d.Moved && !passed && !caughtUp {
				return fmt.Errorf("moved to %d, but %v has neither passed it nor caught up", int64(d.Watermark), p.TopicPartition)
			}
			if d.Moved && p.Fence > d.Watermark {
				return fmt.Errorf("moved to %d, below the fence of %v", int64(d.Watermark), p.TopicPartition)
			}
		}
		return nil
	})
}

func TestLaterTimesNeverLowerIt(t *testing.T) {
	lawful(t, func(r *rand.Rand, s scenario, d Decision) error {
		if len(s.parts) == 0 {
			return nil
		}
		p := &s.parts[r.IntN(len(s.parts))]
		p.MaxTime = max(p.MaxTime, 0) + event.Time(r.IntN(20))
		if later := Low(s.p, s.parts, s.last, s.now); later.Watermark < d.Watermark {
			return fmt.Errorf("%v went to %d, the watermark from %d back to %d", p.TopicPartition, int64(p.MaxTime), int64(d.Watermark), int64(later.Watermark))
		}
		return nil
	})
}

func TestTheOrderOfPartitionsDoesNotMatter(t *testing.T) {
	lawful(t, func(r *rand.Rand, s scenario, d Decision) error {
		r.Shuffle(len(s.parts), func(i, j int) { s.parts[i], s.parts[j] = s.parts[j], s.parts[i] })
		if diff := cmp.Diff(d, Low(s.p, s.parts, s.last, s.now)); diff != "" {
			return fmt.Errorf("(-before +after):\n%s", diff)
		}
		return nil
	})
}

func TestDecidingAgainChangesNothing(t *testing.T) {
	lawful(t, func(_ *rand.Rand, s scenario, d Decision) error {
		if again := Low(s.p, s.parts, d.Watermark, s.now); again.Moved {
			return fmt.Errorf("%d moved on to %d", int64(d.Watermark), int64(again.Watermark))
		}
		return nil
	})
}
