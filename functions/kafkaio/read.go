package kafkaio

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// What one call of Read's function gets at most. A record that is larger than RunBytes is a run of its own.
const (
	RunRecords = 2_000
	RunBytes   = 4 << 20
)

// Read implements Log.
//
// It sends fetch requests of its own instead of running a kgo consumer: a consumer does not tell how far it has come in a
// stretch without records (an aborted tail, what compaction left, markers), and next must. A fetch says so by itself: the
// batches it returns have last offsets, be they aborted, control batches or emptied by compaction.
//
// Runs are as large as RunRecords and RunBytes allow. A call without records is made only where next would not reach to
// otherwise, so also for from == to. from > to is an error.
func (c *Client) Read(ctx context.Context, p event.TopicPartition, from, to int64, fn func(records []event.Record, next int64) error) error {
	if from < 0 || from > to {
		return fmt.Errorf("read %s/%d: [%d, %d) is not a range", p.Topic, p.Partition, from, to)
	}
	r := reader{c: c, p: p, at: from, to: to, told: -1, fn: fn}
	if err := r.run(ctx); err != nil {
		return fmt.Errorf("read %s/%d [%d, %d) at %d: %w", p.Topic, p.Partition, from, to, r.at, err)
	}
	return nil
}

// reader is one Read.
type reader struct {
	c    *Client
	p    event.TopicPartition
	at   int64 // everything in [from, at) has been given to fn, or was no record
	to   int64
	told int64 // the last next that fn was given, -1 before the first
	fn   func([]event.Record, int64) error

	buf   []event.Record // reused from call to call
	bytes int            // of buf
}

func (r *reader) run(ctx context.Context) error {
	var pause backoff
	for r.at < r.to {
		part, err := r.fetch(ctx)
		if err != nil {
			return err
		}
		before := r.at
		if err := r.deliver(part); err != nil {
			return err
		}
		if r.at > before {
			pause = backoff{}
			continue
		}
		hole, err := r.atHole(ctx, part)
		if err != nil {
			return err
		}
		if hole {
			r.at = r.to
			break
		}
		if err := pause.wait(ctx); err != nil {
			return fmt.Errorf("last stable offset is %d, end is %d: %w", part.LastStableOffset, part.HighWatermark, err)
		}
	}
	if r.told != r.to {
		return r.tell(r.to)
	}
	return nil
}

// deliver gives the records of one fetch to fn and moves at behind what the fetch covers.
func (r *reader) deliver(part *kmsg.FetchResponseTopicPartition) error {
	opts := kgo.ProcessFetchPartitionOpts{
		KeepControlRecords: true,
		Offset:             r.at,
		IsolationLevel:     kgo.ReadCommitted(),
		Topic:              r.p.Topic,
		Partition:          r.p.Partition,
	}
	fp, next := kgo.ProcessFetchPartition(opts, part, r.c.decompressor, nil)
	if fp.Err != nil {
		return fmt.Errorf("fetched batch: %w", fp.Err)
	}
	next = min(next, r.to)
	for _, rec := range fp.Records {
		if rec.Offset >= r.to {
			break
		}
		if rec.Attrs.IsControl() {
			continue
		}
		size := len(rec.Key) + len(rec.Value)
		if len(r.buf) == RunRecords || (len(r.buf) > 0 && r.bytes+size > RunBytes) {
			if err := r.tell(r.buf[len(r.buf)-1].Offset + 1); err != nil {
				return err
			}
		}
		r.buf = append(r.buf, toRecord(rec))
		r.bytes += size
	}
	if len(r.buf) > 0 {
		return r.tell(next)
	}
	r.at = next
	return nil
}

// tell calls fn with the run that has been gathered.
func (r *reader) tell(next int64) error {
	if err := r.fn(r.buf, next); err != nil {
		return err
	}
	r.at, r.told = next, next
	clear(r.buf) // the batches behind them may be collected
	r.buf, r.bytes = r.buf[:0], 0
	return nil
}

// atHole decides about a fetch that has not brought us further. Where the stable log ends before to, there is more to wait
// for. Where it does not, nothing is left up to to: the records were removed and no later batch shows it. The one
// other cause of such an answer is an offset that lies in tiered storage only, which the broker had no time to get.
func (r *reader) atHole(ctx context.Context, part *kmsg.FetchResponseTopicPartition) (bool, error) {
	if part.LastStableOffset < r.to || len(part.RecordBatches) > 0 {
		return false, nil
	}
	local, err := r.c.listOffsets(ctx, []event.TopicPartition{r.p}, earliestLocal, uncommitted)
	switch {
	case errors.Is(err, kerr.UnsupportedVersion), errors.Is(err, kerr.InvalidRequest):
		return true, nil // a broker without tiered storage
	case err != nil:
		return false, err
	}
	return local[r.p] <= r.at, nil
}

// fetch asks the leader for the batches from at on, until one answers. It does not wait for data: a waiting fetch would
// hold up those of other readers on the same connection.
func (r *reader) fetch(ctx context.Context) (*kmsg.FetchResponseTopicPartition, error) {
	var pause backoff
	giveUp := time.Now().Add(r.c.opts.RetryFor)
	for {
		part, err := r.fetchOnce(ctx)
		if err == nil {
			return part, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !isMoved(err) || time.Now().After(giveUp) {
			return nil, classify(err)
		}
		r.c.forget(r.p.Topic)
		if err := pause.wait(ctx); err != nil {
			return nil, err
		}
	}
}

// errNoAnswer is a fetch answer without the partition that was asked for: a broker that throttles sends one.
var errNoAnswer = errors.New("the broker has not answered for the partition")

func (r *reader) fetchOnce(ctx context.Context) (*kmsg.FetchResponseTopicPartition, error) {
	info, err := r.c.topic(ctx, r.p.Topic)
	if err != nil {
		return nil, err
	}
	leader, ok := info.leaders[r.p.Partition]
	if !ok {
		return nil, fmt.Errorf("no such partition: %w", ErrUnknownTopic)
	}
	if leader < 0 {
		return nil, kerr.LeaderNotAvailable
	}
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID = -1
	req.MaxWaitMillis, req.MinBytes = 0, 0
	req.MaxBytes = r.c.opts.FetchBytes
	req.IsolationLevel = committed
	req.SessionID, req.SessionEpoch = 0, -1 // no fetch session
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = r.p.Topic, info.id
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes = r.p.Partition, r.at, r.c.opts.FetchBytes
	p.CurrentLeaderEpoch, p.LastFetchedEpoch, p.LogStartOffset = -1, -1, -1
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	var kresp kmsg.Response
	err = r.c.kgo.again(func() (err error) {
		kresp, err = r.c.kgo.Broker(int(leader)).RetriableRequest(ctx, req)
		return err
	})
	if err != nil {
		return nil, err
	}
	resp, ok := kresp.(*kmsg.FetchResponse)
	if !ok {
		return nil, fmt.Errorf("fetch: answered by a %T", kresp)
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, err
	}
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			if part := &resp.Topics[i].Partitions[j]; part.Partition == r.p.Partition {
				if err := kerr.ErrorForCode(part.ErrorCode); err != nil {
					return nil, fmt.Errorf("log starts at %d, ends at %d: %w", part.LogStartOffset, part.HighWatermark, err)
				}
				return part, nil
			}
		}
	}
	return nil, errNoAnswer
}

// isMoved reports whether an error may go away once metadata is fresh: another leader, a broker that is gone, a topic that
// was made again. A topic that does not exist any more shows when the metadata is asked for.
func isMoved(err error) bool {
	if broker, ok := errors.AsType[*kerr.Error](err); ok {
		return broker.Retriable || isUnknownTopic(err)
	}
	return !errors.Is(err, ErrUnknownTopic) && !errors.Is(err, kgo.ErrClientClosed)
}
