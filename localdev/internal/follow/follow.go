// Package follow reads what is added to topics, read_committed. It asks for the end and reads up to it instead of running a
// consumer, so that at the end of a run it is known to have seen everything.
package follow

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
)

// Options of a Tail.
type Options struct {
	Log    kafkaio.Log
	Topics []string
	// Back is how many offsets before the end of each partition a Tail begins. Partitions that appear later are read whole.
	Back int64
	// Most bounds the offsets that are read of a partition at once: what is further behind is left out. 0: nothing is.
	Most int64
	// Take gets each record, in the order of its partition. It is valid only during the call.
	Take func(tp event.TopicPartition, r *event.Record)
}

// Tail follows topics. It is not safe for concurrent use.
type Tail struct {
	Options
	at    map[event.TopicPartition]int64
	order []event.TopicPartition
	asked time.Time // when it was last asked which partitions there are
	begun bool
	lacks bool // a topic does not exist
}

// askEvery is the distance of looks for new topics and partitions.
const askEvery = 10 * time.Second

// New returns a Tail that begins with Begin, or with the first call of More.
func New(o Options) *Tail { return &Tail{Options: o, at: map[event.TopicPartition]int64{}} }

// Begin settles where the tail begins. An error wraps kafkaio.ErrUnknownTopic if a topic does not exist: the others have begun.
func (t *Tail) Begin(ctx context.Context) error {
	asked := time.Now()
	var missing []error
	var found []event.TopicPartition
	for _, topic := range t.Topics {
		parts, err := t.Log.Partitions(ctx, []string{topic})
		switch {
		case errors.Is(err, kafkaio.ErrUnknownTopic):
			missing = append(missing, err)
			continue
		case err != nil:
			return fmt.Errorf("follow %s: %w", topic, err)
		}
		for _, p := range parts {
			if _, ok := t.at[p.TopicPartition]; !ok && !slices.Contains(found, p.TopicPartition) {
				found = append(found, p.TopicPartition)
			}
		}
	}
	if len(found) > 0 {
		offsets, err := t.Log.Offsets(ctx, found)
		if err != nil {
			return fmt.Errorf("follow %v: %w", t.Topics, err)
		}
		for _, tp := range found {
			t.at[tp] = offsets[tp].Start
			if !t.begun {
				t.at[tp] = max(offsets[tp].Start, offsets[tp].End-t.Back)
			}
			t.order = append(t.order, tp)
		}
	}
	t.asked, t.begun, t.lacks = asked, true, len(missing) > 0 // what has failed is not asked: the next call of More asks again
	return errors.Join(missing...)
}

// Missing reports whether a topic did not exist when it was last looked for.
func (t *Tail) Missing() bool { return t.lacks }

// More takes what has been committed since the last call. An error that wraps kafkaio.ErrUnknownTopic says which topics do not exist
// yet; the others have been read. Such an error comes with the first call and then only now and then.
func (t *Tail) More(ctx context.Context) error {
	var missing error
	if time.Since(t.asked) >= askEvery {
		if missing = t.Begin(ctx); missing != nil && !errors.Is(missing, kafkaio.ErrUnknownTopic) {
			return missing
		}
	}
	if len(t.order) == 0 {
		return missing
	}
	offsets, err := t.Log.Offsets(ctx, t.order)
	if err != nil {
		return fmt.Errorf("follow %v: %w", t.Topics, err)
	}
	for _, tp := range t.order {
		from, to := max(t.at[tp], offsets[tp].Start), offsets[tp].Stable
		if t.Most > 0 {
			from = max(from, to-t.Most)
		}
		if from >= to {
			continue
		}
		err := t.Log.Read(ctx, tp, from, to, func(records []event.Record, next int64) error {
			for i := range records {
				t.Take(tp, &records[i])
			}
			t.at[tp] = next
			return nil
		})
		if err != nil && !errors.Is(err, kafkaio.ErrOutOfRange) { // retention was faster: the next call begins behind it
			return fmt.Errorf("follow %s/%d: %w", tp.Topic, tp.Partition, err)
		}
	}
	return missing
}
