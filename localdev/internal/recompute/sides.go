package recompute

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// side is a record of the late or the dead letter topic.
type side struct {
	part   int // index of the source partition
	offset int64
	reason event.Reason
	detail string
	plan   int64
	fence  event.Time
	at     Position
}

// means reports whether the record is there for a reason. A record that was too large for its topic names the reason why it was
// to go there in its detail.
func (s *side) means(reason event.Reason) bool {
	return s.reason == reason || s.reason == event.ReasonTooLarge && strings.HasPrefix(s.detail, string(reason)+": content of ")
}

// stored is a side record in a sorter.
type stored struct {
	Reason, Detail string
	Plan           int64
	Fence          event.Time
	Topic          string
	Partition      int32
	Offset         int64
}

// readSides reads the late and the dead letter topic into a sorter, by source partition and offset. What is from other topics, or
// was not published by Tidemark, is left alone.
func (j *job) readSides(ctx context.Context, to *sorter) error {
	topics := []string{j.pipe.LateTopic}
	if j.pipe.DeadLetterTopic != j.pipe.LateTopic {
		topics = append(topics, j.pipe.DeadLetterTopic)
	}
	parts, err := j.Log.Partitions(ctx, topics)
	if err != nil {
		return fmt.Errorf("late and dead letter topics: %w", err)
	}
	index := map[event.TopicPartition]int{}
	for i, s := range j.sources {
		index[s.TopicPartition] = i
	}
	var key []byte
	return readAll(ctx, j.Log, parts, j.tell("late and dead letter topics"), func(tp event.TopicPartition, r *event.Record) error {
		s, ok := parseSide(tp, r, index)
		if !ok {
			return nil
		}
		key = appendInt(appendInt(key[:0], int64(s.part)), s.offset)
		key = appendInt(appendInt(appendText(key, []byte(tp.Topic)), int64(tp.Partition)), r.Offset)
		value, err := json.Marshal(stored{string(s.reason), s.detail, s.plan, s.fence, tp.Topic, tp.Partition, r.Offset})
		if err != nil {
			return err
		}
		return to.add(key, value)
	})
}

// parseSide reads the headers. It is false where the record is not one of the source partitions.
func parseSide(tp event.TopicPartition, r *event.Record, index map[event.TopicPartition]int) (side, bool) {
	s := side{fence: event.MinTime, plan: -1, offset: -1, at: Position{tp.Topic, tp.Partition, r.Offset}}
	var from event.TopicPartition
	var errs [4]error
	for _, h := range r.Headers {
		v := string(h.Value)
		switch h.Key {
		case "tidemark-topic":
			from.Topic = v
		case "tidemark-partition":
			var n int64
			n, errs[0] = strconv.ParseInt(v, 10, 32)
			from.Partition = int32(n)
		case "tidemark-offset":
			s.offset, errs[1] = strconv.ParseInt(v, 10, 64)
		case "tidemark-plan":
			s.plan, errs[2] = strconv.ParseInt(v, 10, 64)
		case "tidemark-watermark":
			var n int64
			n, errs[3] = strconv.ParseInt(v, 10, 64)
			s.fence = event.Time(n)
		case "tidemark-reason":
			s.reason = event.Reason(v)
		case "tidemark-error":
			s.detail = v
		}
	}
	var known bool
	s.part, known = index[from]
	bad := slices.ContainsFunc(errs[:], func(err error) bool { return err != nil })
	return s, known && !bad && s.offset >= 0 && s.reason != ""
}

// sideCursor goes through side records along with the records that they are.
type sideCursor struct {
	c    *cursor
	next *side // nil at the end
}

func newSideCursor(s *sorter) (*sideCursor, error) {
	c, err := s.cursor()
	if err != nil {
		return nil, err
	}
	out := &sideCursor{c: c}
	err = out.advance()
	return out, err
}

func (c *sideCursor) advance() error {
	key, value, ok, err := c.c.next()
	if err != nil || !ok {
		c.next = nil
		return err
	}
	var x stored
	if err := json.Unmarshal(value, &x); err != nil {
		return err
	}
	s := &side{reason: event.Reason(x.Reason), detail: x.Detail, plan: x.Plan, fence: x.Fence, at: Position{x.Topic, x.Partition, x.Offset}}
	part, key := cutInt(key)
	s.part = int(part)
	s.offset, _ = cutInt(key)
	c.next = s
	return nil
}

// below returns the next side record of a partition with an offset below next, and goes on; nil if there is none.
func (c *sideCursor) below(part int, next int64) (*side, error) {
	s := c.next
	if s == nil || s.part > part || s.part == part && s.offset >= next {
		return nil, nil //nolint:nilnil // none is no failure
	}
	return s, c.advance()
}

// of returns the side records of one offset, and goes on.
func (c *sideCursor) of(part int, offset int64) ([]side, error) {
	var out []side
	for c.next != nil && c.next.part == part && c.next.offset == offset {
		out = append(out, *c.next)
		if err := c.advance(); err != nil {
			return nil, err
		}
	}
	return out, nil
}
