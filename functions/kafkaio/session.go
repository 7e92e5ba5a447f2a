package kafkaio

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// closeWithin is how long Close tries to abort an open transaction. If it cannot, the transaction timeout or the next
// session of the same id does.
const closeWithin = 2 * time.Second

// txnState is where a session stands.
type txnState uint8

const (
	txnIdle  txnState = iota // no transaction
	txnOpen                  // begun, not ended
	txnSpent                 // ended, and the session may not begin another
	txnDead                  // an operation failed: what is open is to be aborted
	txnLost                  // an End failed, or a newer session has taken over: nothing may be sent any more
)

// String implements fmt.Stringer.
func (s txnState) String() string {
	switch s {
	case txnIdle:
		return "no transaction"
	case txnOpen:
		return "transaction open"
	case txnSpent:
		return "ended, not reusable"
	case txnDead:
		return "failed"
	case txnLost:
		return "fenced or outcome unknown"
	}
	return fmt.Sprintf("txnState(%d)", uint8(s))
}

// session implements Session over one kgo client.
type session struct {
	owner   *Client
	kgo     wire
	id      string
	version int16 // transaction.version of the cluster at the time of Open
	ends    *writes

	state    txnState
	produced int // messages acknowledged in the open transaction
	sent     bool
	pid      int64 // producer id and epoch of the open transaction
	epoch    int16
}

// Reusable implements Session.
func (s *session) Reusable() bool {
	return s.version >= epochPerTransaction && (s.state == txnIdle || s.state == txnOpen)
}

// Begin implements Session. Nothing is sent: a newer session shows with the first Produce.
func (s *session) Begin(ctx context.Context) error {
	if s.state != txnIdle {
		return fmt.Errorf("begin in session %q: %s: %w", s.id, s.state, ErrSessionState)
	}
	pid, epoch, err := s.kgo.ProducerID(ctx)
	if err == nil {
		err = s.kgo.BeginTransaction()
	}
	if err != nil {
		return fmt.Errorf("begin in session %q: %w", s.id, s.fail(err))
	}
	s.state, s.pid, s.epoch, s.produced, s.sent = txnOpen, pid, epoch, 0, false
	return nil
}

// fail notes that an operation failed and adds the sentinel of its cause.
func (s *session) fail(err error) error {
	s.state = txnDead
	if isFenced(err) {
		s.state = txnLost
	}
	return classify(err)
}

// check refuses operations outside of a transaction, and goes on only while the producer has the epoch it had at Begin: a
// client that has got itself a fresh one would put what follows into another transaction.
func (s *session) check(ctx context.Context) error {
	if s.state != txnOpen {
		return fmt.Errorf("%s: %w", s.state, ErrSessionState)
	}
	pid, epoch, err := s.kgo.ProducerID(ctx)
	if err != nil {
		return s.fail(err)
	}
	if pid != s.pid || epoch != s.epoch {
		s.state = txnDead
		return fmt.Errorf("producer %d/%d has become %d/%d within a transaction", s.pid, s.epoch, pid, epoch)
	}
	return nil
}

// Produce implements Session.
func (s *session) Produce(ctx context.Context, messages []Message) ([]Position, error) {
	if err := s.check(ctx); err != nil {
		return nil, fmt.Errorf("produce in session %q: %w", s.id, err)
	}
	s.sent = s.sent || len(messages) > 0
	positions, err := produce(ctx, s.kgo.Client, messages)
	if err != nil {
		return nil, fmt.Errorf("produce in session %q: %w", s.id, s.fail(err))
	}
	s.produced += len(messages)
	return positions, nil
}

// CommitOffsets implements Session. The request is sent by hand: kgo commits offsets in a transaction only for the group
// that its own consumer is a member of.
func (s *session) CommitOffsets(ctx context.Context, group string, offsets []OffsetCommit) error {
	err := s.check(ctx)
	if err == nil && len(offsets) > 0 {
		if err = s.commitOffsets(ctx, group, offsets); err != nil {
			err = s.fail(err)
		}
	}
	if err != nil {
		return fmt.Errorf("commit offsets of group %q in session %q: %w", group, s.id, err)
	}
	return nil
}

func (s *session) commitOffsets(ctx context.Context, group string, offsets []OffsetCommit) error {
	req, err := s.offsetRequest(ctx, group, offsets)
	if err != nil {
		return err
	}
	s.sent = true
	if s.version < epochPerTransaction {
		add := kmsg.NewPtrAddOffsetsToTxnRequest()
		add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = s.id, s.pid, s.epoch, group
		err := repeat(ctx, s.owner.opts.RetryFor, func() error {
			resp, err := add.RequestWith(ctx, s.kgo)
			if err != nil {
				return err
			}
			return kerr.ErrorForCode(resp.ErrorCode)
		})
		if err != nil {
			return fmt.Errorf("add offsets to transaction: %w", err)
		}
	}
	return repeat(ctx, s.owner.opts.RetryFor, func() error {
		resp, err := req.RequestWith(ctx, s.kgo)
		if err != nil {
			return err
		}
		for i, t := range resp.Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					name := t.Topic // version 6 has the id instead
					if name == "" && i < len(req.Topics) {
						name = req.Topics[i].Topic
					}
					return fmt.Errorf("%s/%d: %w", name, p.Partition, err)
				}
			}
		}
		return nil
	})
}

// offsetRequest has the topic's name and its id: which of them is sent depends on the version the broker takes.
func (s *session) offsetRequest(ctx context.Context, group string, offsets []OffsetCommit) (*kmsg.TxnOffsetCommitRequest, error) {
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = s.id, s.pid, s.epoch, group
	req.Generation, req.MemberID = -1, "" // a group without members
	index := map[string]int{}
	for _, o := range offsets {
		if err := CheckCommit(o); err != nil {
			return nil, err
		}
		i, ok := index[o.Topic]
		if !ok {
			i = len(req.Topics)
			index[o.Topic] = i
			t := kmsg.NewTxnOffsetCommitRequestTopic()
			t.Topic, t.TopicID = o.Topic, o.TopicID
			if t.TopicID == ([16]byte{}) {
				info, err := s.owner.topic(ctx, o.Topic)
				if err != nil {
					return nil, err
				}
				t.TopicID = info.id
			}
			req.Topics = append(req.Topics, t)
		}
		p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = o.TopicPartition.Partition, o.Offset, -1, new(o.Metadata)
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p)
	}
	return req, nil
}

// CheckCommit refuses an offset commit that no broker takes.
func CheckCommit(o OffsetCommit) error {
	tp := o.TopicPartition
	if o.Offset < 0 {
		return fmt.Errorf("%s/%d: offset %d: %w", tp.Topic, tp.Partition, o.Offset, ErrOutOfRange)
	}
	if len(o.Metadata) > MaxMetadata {
		return fmt.Errorf("%s/%d: %d bytes of metadata, at most %d: %w", tp.Topic, tp.Partition, len(o.Metadata), MaxMetadata, ErrMetadataTooLarge)
	}
	return nil
}

// End implements Session. The outcome is known to be "not committed" only where nothing was sent, or where the one EndTxn
// that was sent is answered by a refusal: behind a repeated one, the first may have committed.
func (s *session) End(ctx context.Context) error {
	if s.state == txnOpen && s.produced == 0 {
		s.state = txnDead // kgo would end such a transaction without telling the broker
		return fmt.Errorf("end in session %q: no message was produced: %w", s.id, ErrSessionState)
	}
	if err := s.check(ctx); err != nil {
		return fmt.Errorf("end in session %q: %w", s.id, err)
	}
	before := s.ends.n.Load()
	if err := s.kgo.EndTransaction(ctx, kgo.TryCommit); err != nil {
		s.state = txnLost
		if isFenced(err) && s.ends.n.Load() == before+1 {
			return fmt.Errorf("end in session %q: %w", s.id, classify(err))
		}
		return fmt.Errorf("end in session %q: %w: %w", s.id, ErrUnknownOutcome, classify(err))
	}
	s.state = txnIdle
	if s.version < epochPerTransaction {
		s.state = txnSpent
	}
	return nil
}

// Close implements Session. It takes up to 2 s if the broker cannot be reached.
func (s *session) Close() {
	if (s.state == txnOpen || s.state == txnDead) && s.sent {
		s.abort()
	}
	s.state = txnLost
	s.kgo.Close()
}

// abort asks the coordinator to abort the open transaction. The request is made by hand, for the epoch of Begin and no
// other: kgo, after a failure, would ask for a new epoch first, and that request disturbs a newer session's transaction.
func (s *session) abort() {
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	if err := s.kgo.AbortBufferedRecords(ctx); err != nil {
		return // something is still under way: an abort now could be overtaken by it
	}
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = s.id, s.pid, s.epoch, false
	// An error changes nothing for the caller: the transaction is aborted later.
	_ = repeat(ctx, closeWithin, func() error {
		resp, err := req.RequestWith(ctx, s.kgo)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(resp.ErrorCode)
	})
}

// produce sends messages and waits until all are acknowledged. When ctx ends first, what is under way may still arrive.
func produce(ctx context.Context, cl *kgo.Client, messages []Message) ([]Position, error) {
	if len(messages) == 0 {
		return nil, nil
	}
	type outcome struct {
		i   int
		err error
	}
	records := make([]kgo.Record, len(messages))
	outcomes := make(chan outcome, len(messages))
	for i, m := range messages {
		r := &records[i]
		r.Topic, r.Partition, r.Key, r.Value = m.Topic, max(m.Partition, -1), m.Key, m.Value
		if m.Timestamp != 0 {
			r.Timestamp = m.Timestamp.Go()
		}
		for _, h := range m.Headers {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
		cl.Produce(ctx, r, func(_ *kgo.Record, err error) { outcomes <- outcome{i, err} })
	}
	for range messages {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case o := <-outcomes:
			if o.err != nil {
				m := messages[o.i]
				return nil, fmt.Errorf("message %d of %d, to %s/%d: %w", o.i, len(messages), m.Topic, m.Partition, o.err)
			}
		}
	}
	positions := make([]Position, len(records))
	for i := range records {
		tp := event.TopicPartition{Topic: records[i].Topic, Partition: records[i].Partition}
		positions[i] = Position{TopicPartition: tp, Offset: records[i].Offset}
	}
	return positions, nil
}
