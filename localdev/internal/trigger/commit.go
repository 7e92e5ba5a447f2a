package trigger

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

const (
	// betweenCommits is the least time from one commit to the next. What is done within it goes into one.
	betweenCommits = 25 * time.Millisecond
	// commitWithin bounds a commit of offsets. One that fails costs a redelivery, unless a later one succeeds.
	commitWithin = 5 * time.Second
	// commitAgain is the pause before a commit that failed is tried again.
	commitAgain = 200 * time.Millisecond
)

// committer commits what a poller has done, behind its back: the next invocation does not wait for it.
type committer struct {
	*poller
	dirty chan struct{} // something is done
	one   sync.Mutex    // commits are made one after another, so that no position goes back
}

// wake says that something may be committed.
func (c *committer) wake() {
	select {
	case c.dirty <- struct{}{}:
	default:
	}
}

// run commits until ctx ends.
func (c *committer) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.dirty:
		}
		pause := betweenCommits
		if !c.flush(ctx) {
			pause = commitAgain
			c.wake()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// flush commits all that is done and has not been committed, and reports whether it could.
func (c *committer) flush(ctx context.Context) bool {
	c.one.Lock()
	defer c.one.Unlock()
	offsets, wire := c.collect()
	if len(offsets) == 0 {
		return true
	}
	began := time.Now()
	within, cancel := context.WithTimeout(ctx, commitWithin)
	defer cancel()
	var failed error
	c.client.CommitOffsetsSync(within, wire, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, answer *kmsg.OffsetCommitResponse, err error) {
		failed = err
		if err == nil {
			failed = refusal(answer)
		}
	})
	if ctx.Err() != nil && errors.Is(failed, context.Canceled) {
		return false // run ends: it flushes once more
	}
	if failed == nil {
		c.note(offsets)
	} else {
		c.Logger.Warn("trigger: commit of offsets: what was done may be delivered again", "group", c.Group, "error", failed)
	}
	if c.Hooks.Committed != nil {
		c.Hooks.Committed(Committed{Poller: c.number, Offsets: offsets, Err: failed, At: began, Took: time.Since(began)})
	}
	return failed == nil
}

// collect returns the positions that the group does not have.
func (c *committer) collect() (map[event.TopicPartition]int64, map[string]map[int32]kgo.EpochOffset) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var offsets map[event.TopicPartition]int64
	var wire map[string]map[int32]kgo.EpochOffset
	for tp, p := range c.partitions {
		at := p.position()
		if at < 0 || at <= p.committed {
			continue
		}
		if offsets == nil {
			offsets, wire = map[event.TopicPartition]int64{}, map[string]map[int32]kgo.EpochOffset{}
		}
		if wire[tp.Topic] == nil {
			wire[tp.Topic] = map[int32]kgo.EpochOffset{}
		}
		offsets[tp] = at
		wire[tp.Topic][tp.Partition] = kgo.EpochOffset{Epoch: -1, Offset: at}
	}
	return offsets, wire
}

// note remembers what the group has.
func (c *committer) note(offsets map[event.TopicPartition]int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for tp, at := range offsets {
		if p := c.partitions[tp]; p != nil {
			p.committed = max(p.committed, at)
		}
	}
}

// refusal is the first error in an answer.
func refusal(answer *kmsg.OffsetCommitResponse) error {
	for _, t := range answer.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return err
			}
		}
	}
	return nil
}
