package follow_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/follow"
)

// place is a log with a topic "out" of two partitions, and a tail of it.
type place struct {
	*testing.T
	log  *memlog.Log
	tail *follow.Tail
	seen []string
	away error // of every operation, while it is not nil
}

func newPlace(t *testing.T, o follow.Options) *place {
	t.Helper()
	p := &place{T: t}
	p.log = memlog.New(memlog.Options{Hook: func(string) error { return p.away }})
	p.create("out", 2)
	o.Log, o.Take = p.log, func(tp event.TopicPartition, r *event.Record) {
		p.seen = append(p.seen, fmt.Sprintf("%s/%d@%d", tp.Topic, tp.Partition, r.Offset))
	}
	p.tail = follow.New(o)
	return p
}

func (p *place) create(topic string, n int32) {
	p.Helper()
	if err := p.log.CreateTopic(topic, n); err != nil {
		p.Fatal(err)
	}
}

func (p *place) add(topic string, partition int32, n int) {
	p.Helper()
	for range n {
		if err := p.log.Produce(p.Context(), []kafkaio.Message{{Topic: topic, Partition: partition, Value: []byte("v")}}); err != nil {
			p.Fatal(err)
		}
	}
}

// more takes what there is, and checks what it was.
func (p *place) more(want ...string) {
	p.Helper()
	p.seen = nil
	if err := p.tail.More(p.Context()); err != nil {
		p.Fatal(err)
	}
	if d := cmp.Diff(want, p.seen); d != "" {
		p.Errorf("(-want +got)\n%s", d)
	}
}

func TestItBeginsSoFarBeforeTheEnd(t *testing.T) {
	p := newPlace(t, follow.Options{Topics: []string{"out", "out"}, Back: 2})
	p.add("out", 0, 5)
	p.add("out", 1, 1)
	p.more("out/0@3", "out/0@4", "out/1@0")
	p.more()
	p.add("out", 1, 2)
	p.more("out/1@1", "out/1@2")
}

func TestItBeginsAtTheEndThatItWasToldOf(t *testing.T) {
	p := newPlace(t, follow.Options{Topics: []string{"out"}})
	p.add("out", 0, 3)
	if err := p.tail.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.add("out", 0, 1)
	p.more("out/0@3")
}

func TestWhatIsTooFarBehindIsLeftOut(t *testing.T) {
	p := newPlace(t, follow.Options{Topics: []string{"out"}, Most: 2})
	p.more()
	p.add("out", 0, 6)
	p.more("out/0@4", "out/0@5")
}

// What a plan has published is seen once it is committed, and what was aborted never.
func TestOnlyCommittedRecordsAreSeen(t *testing.T) {
	p := newPlace(t, follow.Options{Topics: []string{"out"}})
	p.more()
	for _, commit := range []bool{false, true} {
		s, err := p.log.Open(t.Context(), "id")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		at, err := s.Produce(t.Context(), []kafkaio.Message{{Topic: "out", Value: []byte("v")}})
		if err != nil {
			t.Fatal(err)
		}
		p.more()
		if !commit {
			s.Close()
			p.more()
			continue
		}
		if err := s.End(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.more(fmt.Sprintf("out/0@%d", at[0].Offset))
	}
}

func TestRecordsThatRetentionRemovedAreGoneOver(t *testing.T) {
	p := newPlace(t, follow.Options{Topics: []string{"out"}})
	p.more()
	p.add("out", 0, 4)
	if err := p.log.Truncate(event.TopicPartition{Topic: "out"}, 3); err != nil {
		t.Fatal(err)
	}
	p.more("out/0@3")
}

// While the log cannot be reached every call says so, the first as well as those after it, and nothing is missed by it.
func TestEachCallTellsThatTheLogIsAway(t *testing.T) {
	for name, before := range map[string]func(*place){
		"from the beginning": func(*place) {},
		"later":              func(p *place) { p.more() },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t, follow.Options{Topics: []string{"out"}, Back: 1})
			before(p)
			p.away = errors.New("the log is away")
			for range 3 {
				if err := p.tail.More(t.Context()); !errors.Is(err, p.away) {
					t.Errorf("%v, want %v", err, p.away)
				}
			}
			p.away = nil
			p.add("out", 0, 1)
			p.more("out/0@0")
		})
	}
}

// Topics and partitions that are made later are read from their beginning.
func TestTopicsThatComeLaterAreFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t, follow.Options{Topics: []string{"out", "late"}})
		if err := p.tail.More(t.Context()); !errors.Is(err, kafkaio.ErrUnknownTopic) || !p.tail.Missing() {
			t.Errorf("%v, want ErrUnknownTopic", err)
		}
		p.create("late", 1)
		p.add("late", 0, 2)
		p.add("out", 0, 1)
		p.more("out/0@0") // what is there is read meanwhile
		<-time.After(11 * time.Second)
		p.more("late/0@0", "late/0@1")
		if p.tail.Missing() {
			t.Error("a topic is missing that is there")
		}
	})
}
