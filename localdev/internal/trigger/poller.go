package trigger

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/esm"
)

const (
	// betweenPolls is the least time from one poll to the next. Under load it makes of a fetch for every few records one for some
	// more, at the cost of as much latency; a record that comes after a pause is not held up.
	betweenPolls = time.Millisecond
	// mostPolled is how many records one poll takes.
	mostPolled = 10_000
	// A partition is not fetched while this much of it waits; at least, and in batches and bytes.
	mostQueued      = 1000
	batchesQueued   = 2
	mostQueuedBytes = 4 * esm.MaxPayload
	// handOver is how long a poller that has to give a partition away waits for its invocation. The records of one that takes longer
	// are delivered again, by whoever has the partition then.
	handOver = 10 * time.Second
	// pollAgain is the pause after a poll that only failed.
	pollAgain = 100 * time.Millisecond
)

// poller is a member of the group with the partitions that it is assigned. It has up to Concurrency invocations at once.
type poller struct {
	*trigger
	number int
	client *kgo.Client
	ready  chan struct{}   // closed when client is set: the group may call before
	ctx    context.Context //nolint:containedctx // of Run: invocations begin from timers and callbacks of the client
	work   sync.WaitGroup  // invocations

	mu         sync.Mutex
	partitions map[event.TopicPartition]*partition
	running    int
	waiting    []*batch // for their next try
	timer      *time.Timer
	ending     bool // nothing begins any more

	commits committer
}

func newPoller(ctx context.Context, t *trigger, number int) *poller {
	p := &poller{trigger: t, number: number, ctx: ctx, ready: make(chan struct{}), partitions: map[event.TopicPartition]*partition{}}
	p.commits = committer{poller: p, dirty: make(chan struct{}, 1)}
	p.timer = time.AfterFunc(time.Hour, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.dispatch()
	})
	return p
}

// run polls until ctx ends, and leaves the group once invocations are done and committed.
func (l *poller) run(ctx context.Context) {
	committing, stop := context.WithCancel(context.WithoutCancel(ctx))
	var commits sync.WaitGroup
	commits.Go(func() { l.commits.run(committing) })
	for ctx.Err() == nil {
		began := time.Now()
		l.poll(ctx)
		l.client.AllowRebalance()
		if rest := betweenPolls - time.Since(began); rest > 0 {
			pause(ctx, rest)
		}
	}
	l.mu.Lock()
	l.ending = true
	l.timer.Stop()
	l.mu.Unlock()
	l.work.Wait()
	stop()
	commits.Wait()
	l.commits.flush(context.WithoutCancel(ctx))
	l.client.CloseAllowingRebalance()
}

// pause waits, less if ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// poll takes what came.
func (l *poller) poll(ctx context.Context) {
	fetches := l.client.PollRecords(ctx, mostPolled)
	if ctx.Err() != nil {
		return
	}
	now := time.Now()
	failed := false
	fetches.EachError(func(topic string, p int32, err error) {
		if !errors.Is(err, context.Canceled) && !errors.Is(err, kgo.ErrClientClosed) {
			failed = true
			l.Logger.Warn("trigger: fetch", "topic", topic, "partition", p, "error", err)
		}
	})
	var came []arrival
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		if len(f.Records) > 0 {
			came = append(came, l.arrived(f, now))
		}
	})
	l.mu.Lock()
	for i := range came {
		l.enqueue(&came[i])
	}
	l.dispatch()
	l.mu.Unlock()
	if failed && len(came) == 0 {
		pause(ctx, pollAgain)
	}
	if l.Hooks.Polled != nil {
		for i := range came {
			l.Hooks.Polled(came[i].Polled)
		}
	}
}

// arrival is what a poll brought of one partition.
type arrival struct {
	Polled
	first, next int64    // offsets: of the first record, and behind the last
	passed      []record // through the filters
}

// arrived applies the filters.
func (l *poller) arrived(f kgo.FetchTopicPartition, now time.Time) arrival {
	n := len(f.Records)
	a := arrival{
		Polled: Polled{
			TopicPartition: event.TopicPartition{Topic: f.Topic, Partition: f.Partition},
			Poller:         l.number, Records: n, End: f.HighWatermark, At: now,
		},
		first: f.Records[0].Offset, next: f.Records[n-1].Offset + 1, passed: make([]record, 0, n),
	}
	for _, r := range f.Records {
		if l.filters.Pass(r.Value) {
			a.passed = append(a.passed, record{Record: r, arrived: now})
		} else {
			a.Filtered++
		}
	}
	return a
}

// enqueue takes what arrived. The lock is held.
func (l *poller) enqueue(a *arrival) {
	p := l.partitions[a.TopicPartition]
	if p == nil {
		return // it was given away
	}
	if p.read < 0 {
		p.committed = a.first // where it begins: nothing is done yet
	}
	p.read = a.next
	for _, r := range a.passed {
		p.bytes += sizeOf(r.Record)
	}
	if p.queue == nil {
		p.queue = a.passed
	} else {
		p.queue = append(p.queue, a.passed...)
	}
	if a.Filtered > 0 {
		l.commits.wake()
	}
	if !p.paused && l.full(p) {
		p.paused = true
		l.client.PauseFetchPartitions(map[string][]int32{p.Topic: {p.Partition}})
	}
}

// full reports whether a partition has enough records waiting. The lock is held.
func (l *poller) full(p *partition) bool {
	return len(p.queue) >= max(mostQueued, batchesQueued*l.BatchSize) || p.bytes >= mostQueuedBytes
}

// resume lets a partition be fetched again, once it has less than half of what is enough. The lock is held.
func (l *poller) resume(p *partition) {
	if p.paused && len(p.queue) < max(mostQueued, batchesQueued*l.BatchSize)/2 && p.bytes < mostQueuedBytes/2 {
		p.paused = false
		l.client.ResumeFetchPartitions(map[string][]int32{p.Topic: {p.Partition}})
	}
}

// dispatch begins all invocations that can begin now, and sets the timer for the next. The lock is held.
func (l *poller) dispatch() {
	if l.ending || l.ctx.Err() != nil {
		return
	}
	var next time.Time
	for l.running < l.Concurrency {
		now := time.Now()
		b, due := l.due(now)
		if b == nil {
			var closes time.Time
			if b, closes = l.form(now); due.IsZero() || !closes.IsZero() && closes.Before(due) {
				due = closes
			}
		}
		if b == nil {
			next = due
			break
		}
		l.running++
		l.work.Go(func() { l.deliver(b) })
	}
	if !next.IsZero() {
		l.timer.Reset(time.Until(next))
	}
}

// due takes a batch whose next try is due, or says when the next one is. The lock is held.
func (l *poller) due(now time.Time) (b *batch, next time.Time) {
	for i, b := range l.waiting {
		if !b.due.After(now) {
			l.waiting = slices.Delete(l.waiting, i, i+1)
			b.pending = false
			return b, time.Time{}
		}
		if next.IsZero() || b.due.Before(next) {
			next = b.due
		}
	}
	return nil, next
}

// form closes a batch of the records that wait, if it is time to, or says when it will be. Partitions whose records have waited
// longest come first. The lock is held.
func (l *poller) form(now time.Time) (b *batch, closes time.Time) {
	var ready []*partition
	count, bytes := 0, 0
	for _, p := range l.partitions {
		if p.current == nil && !p.leaving && len(p.queue) > 0 {
			ready = append(ready, p)
			count += len(p.queue)
			bytes += p.bytes
		}
	}
	if len(ready) == 0 {
		return nil, time.Time{}
	}
	slices.SortFunc(ready, func(a, b *partition) int {
		if c := a.queue[0].arrived.Compare(b.queue[0].arrived); c != 0 {
			return c
		}
		return int(a.Partition - b.Partition)
	})
	b = &batch{closed: ClosedBySize, pause: l.RetryPause, ended: make(chan struct{})}
	if count < l.BatchSize && bytes < esm.MaxPayload {
		if closes = ready[0].queue[0].arrived.Add(l.Window); closes.After(now) {
			return nil, closes
		}
		b.closed = ClosedByWindow
	} else if count < l.BatchSize {
		b.closed = ClosedByPayload
	}
	left := l.BatchSize
	for _, p := range ready {
		if left == 0 {
			break
		}
		records := p.take(left)
		left -= len(records)
		b.parts = append(b.parts, part{p, records})
		p.hold(b)
		l.resume(p)
	}
	return b, time.Time{}
}

// assigned notes partitions that this member of the group has from now on.
func (l *poller) assigned(_ context.Context, _ *kgo.Client, got map[string][]int32) {
	l.mu.Lock()
	for topic, numbers := range got {
		for _, n := range numbers {
			tp := event.TopicPartition{Topic: topic, Partition: n}
			l.partitions[tp] = &partition{TopicPartition: tp, read: -1, committed: -1}
		}
	}
	l.mu.Unlock()
	l.tellAssigned()
}

// revoked gives partitions away in order: what is in an invocation is waited for, within bounds, and committed.
func (l *poller) revoked(ctx context.Context, _ *kgo.Client, gone map[string][]int32) {
	<-l.ready
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), handOver)
	defer cancel()
	var ends []chan struct{}
	l.mu.Lock()
	for _, p := range l.named(gone) {
		if end := p.leave(); end != nil {
			ends = append(ends, end)
		}
	}
	l.strip()
	l.mu.Unlock()
	for _, end := range ends {
		select {
		case <-end:
		case <-within.Done():
		}
	}
	l.commits.flush(context.WithoutCancel(ctx))
	l.forget(gone)
}

// lost forgets partitions that another member may have already.
func (l *poller) lost(_ context.Context, _ *kgo.Client, gone map[string][]int32) { l.forget(gone) }

// named returns the partitions of a map of the client's. The lock is held.
func (l *poller) named(names map[string][]int32) (out []*partition) {
	for topic, numbers := range names {
		for _, n := range numbers {
			if p := l.partitions[event.TopicPartition{Topic: topic, Partition: n}]; p != nil {
				out = append(out, p)
			}
		}
	}
	return out
}

// forget drops partitions with all that waits of them.
func (l *poller) forget(gone map[string][]int32) {
	<-l.ready
	l.mu.Lock()
	for _, p := range l.named(gone) {
		p.gone = true
		delete(l.partitions, p.TopicPartition)
		if p.paused {
			l.client.ResumeFetchPartitions(map[string][]int32{p.Topic: {p.Partition}})
		}
	}
	l.strip()
	l.mu.Unlock()
	l.tellAssigned()
}

// strip takes the records of partitions that leave or are gone out of the batches that wait for another try. The lock is held.
func (l *poller) strip() {
	for _, b := range l.waiting {
		b.parts = slices.DeleteFunc(b.parts, func(p part) bool { return p.leaving || p.gone })
	}
	l.waiting = slices.DeleteFunc(l.waiting, func(b *batch) bool { return len(b.parts) == 0 })
}

func (l *poller) tellAssigned() {
	if l.Hooks.Assigned == nil {
		return
	}
	l.mu.Lock()
	all := slices.SortedFunc(maps.Keys(l.partitions), func(a, b event.TopicPartition) int {
		if c := strings.Compare(a.Topic, b.Topic); c != 0 {
			return c
		}
		return int(a.Partition - b.Partition)
	})
	l.mu.Unlock()
	l.Hooks.Assigned(Assigned{Poller: l.number, Partitions: all})
}
