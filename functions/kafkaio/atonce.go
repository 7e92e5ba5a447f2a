package kafkaio

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// AtOnce returns the publisher for a cluster without transactions. What a session of it produces is visible at once and stays,
// whether or not End follows; End commits the offsets of each group by themselves, in the order of CommitOffsets. See IsAtOnce
// for what that asks of whoever uses one.
//
// Where the group to be committed has the name of the session's id, a session is the only member of that group, under an
// id that all sessions share: the coordinator then refuses the commits of every older session, as it does transactions. Where
// a cluster has no such members, End reads the group afterwards, which finds a commit that was overwritten at once and no
// other.
func (c *Client) AtOnce() Publisher { return atOncePublisher{c} }

type atOncePublisher struct{ client *Client }

// IsAtOnce reports whether what a session produces is visible before End, and stays without it. Whoever uses such a session has
// to see to it that messages which are produced again, or by two sessions, tell which of them counts.
func IsAtOnce(s Session) bool {
	a, ok := s.(interface{ AtOnce() bool })
	return ok && a.AtOnce()
}

const (
	// memberTimeout is after how much silence the coordinator forgets a session; it is the default of Kafka's own consumers.
	// A session that was forgotten commits nothing.
	memberTimeout = 45 * time.Second
	// memberName is the id that the sessions of a group share. A newer one fences the one before it.
	memberName = "tidemark-firer"
	// memberProtocol is not "consumer": of such groups a coordinator forgets the offsets of topics that no member subscribes to.
	memberProtocol = "tidemark"
)

// atOnce implements Session without transactions.
type atOnce struct {
	owner   *Client
	kgo     wire
	id      string
	member  *member // nil where the cluster has no members with an id of their own
	commits *writes

	state     txnState
	committed bool // offsets of the group that it is a member of
	produced  int
	groups    []string // in the order of their first commit
	offsets   map[string]map[event.TopicPartition]OffsetCommit
}

// member is a session's membership of its group.
type member struct {
	id         string
	generation int32
	seen       time.Time // when the coordinator was last heard of
}

// Open implements Publisher: older sessions of the id are fenced when it returns. On a group that had no member for a while
// brokers wait for others before they answer (group.initial.rebalance.delay.ms, 3 s unless it was changed).
func (p atOncePublisher) Open(ctx context.Context, id string) (Session, error) {
	has, err := p.client.features(ctx)
	if err != nil {
		return nil, fmt.Errorf("open session %q: %w", id, err)
	}
	commits := &writes{key: kmsg.OffsetCommit}
	cl, err := p.client.opts.connect(kgo.WithHooks(commits))
	if err != nil {
		return nil, fmt.Errorf("open session %q: %w", id, err)
	}
	s := &atOnce{owner: p.client, kgo: cl, id: id, commits: commits}
	if has.fixedMembers {
		err = s.join(ctx)
	}
	if err != nil {
		cl.Close()
		return nil, fmt.Errorf("open session %q: join the group: %w", id, memberError(err))
	}
	return s, nil
}

// joinTries is how often a session joins again because the group was changing.
const joinTries = 10

// join makes the session the one member of its group. A broker that knows the requests but not the ids of members asks for a
// member id, which it does not do otherwise: there the session has no membership.
func (s *atOnce) join(ctx context.Context) error {
	for try := 1; ; try++ {
		err := s.joinOnce(ctx)
		switch {
		case errors.Is(err, kerr.MemberIDRequired):
			return nil
		case errors.Is(err, kerr.RebalanceInProgress) && try < joinTries:
		default:
			return err
		}
	}
}

func (s *atOnce) joinOnce(ctx context.Context) error {
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.InstanceID, join.ProtocolType = s.id, new(memberName), memberProtocol
	join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = int32(memberTimeout.Milliseconds()), int32(memberTimeout.Milliseconds())
	protocol := kmsg.NewJoinGroupRequestProtocol()
	protocol.Name = memberName
	join.Protocols = append(join.Protocols, protocol)
	var m member
	err := repeat(ctx, s.owner.opts.RetryFor, func() error {
		resp, err := join.RequestWith(ctx, s.kgo)
		if err != nil {
			return err
		}
		m = member{id: resp.MemberID, generation: resp.Generation, seen: time.Now()}
		return kerr.ErrorForCode(resp.ErrorCode)
	})
	if err != nil {
		return err
	}
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.InstanceID, sync.MemberID, sync.Generation = s.id, new(memberName), m.id, m.generation
	sync.ProtocolType, sync.Protocol = new(memberProtocol), new(memberName)
	assignment := kmsg.NewSyncGroupRequestGroupAssignment()
	assignment.MemberID = m.id
	sync.GroupAssignment = append(sync.GroupAssignment, assignment)
	err = repeat(ctx, s.owner.opts.RetryFor, func() error {
		resp, err := sync.RequestWith(ctx, s.kgo)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(resp.ErrorCode)
	})
	if err == nil {
		s.member = &m
	}
	return err
}

// memberError adds ErrFenced where a coordinator says that the session is not the group's member any more.
func memberError(err error) error {
	for _, gone := range []error{kerr.FencedInstanceID, kerr.UnknownMemberID, kerr.IllegalGeneration, kerr.RebalanceInProgress} {
		if errors.Is(err, gone) {
			return fmt.Errorf("%w: %w", ErrFenced, err)
		}
	}
	return classify(err)
}

// AtOnce reports what IsAtOnce is about.
func (s *atOnce) AtOnce() bool { return true }

// Reusable implements Session. Without a membership nobody tells a session that another one has committed meanwhile.
func (s *atOnce) Reusable() bool {
	return s.member != nil && (s.state == txnIdle || s.state == txnOpen)
}

// Begin implements Session. It finds out whether a newer session has taken over before anything is produced.
func (s *atOnce) Begin(ctx context.Context) error {
	if s.state != txnIdle {
		return fmt.Errorf("begin in session %q: %s: %w", s.id, s.state, ErrSessionState)
	}
	if err := s.heartbeat(ctx, 0); err != nil {
		return fmt.Errorf("begin in session %q: %w", s.id, s.fail(err))
	}
	s.state, s.produced, s.groups, s.offsets = txnOpen, 0, nil, map[string]map[event.TopicPartition]OffsetCommit{}
	return nil
}

// heartbeat keeps the membership, if the last sign of it is older than that.
func (s *atOnce) heartbeat(ctx context.Context, older time.Duration) error {
	if s.member == nil || time.Since(s.member.seen) < older {
		return nil
	}
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.InstanceID, req.MemberID, req.Generation = s.id, new(memberName), s.member.id, s.member.generation
	err := repeat(ctx, s.owner.opts.RetryFor, func() error {
		resp, err := req.RequestWith(ctx, s.kgo)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(resp.ErrorCode)
	})
	if err != nil {
		return fmt.Errorf("membership: %w", memberError(err))
	}
	s.member.seen = time.Now()
	return nil
}

// fail notes that an operation failed.
func (s *atOnce) fail(err error) error {
	s.state = txnDead
	if errors.Is(err, ErrFenced) {
		s.state = txnLost
	}
	return err
}

func (s *atOnce) check() error {
	if s.state != txnOpen {
		return fmt.Errorf("%s: %w", s.state, ErrSessionState)
	}
	return nil
}

// Produce implements Session. After an error some of the messages may have been published.
func (s *atOnce) Produce(ctx context.Context, messages []Message) ([]Position, error) {
	err := s.check()
	if err == nil {
		if err = s.heartbeat(ctx, memberTimeout/4); err != nil {
			err = s.fail(err)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("produce in session %q: %w", s.id, err)
	}
	positions, err := produce(ctx, s.kgo.Client, messages)
	if err != nil {
		return nil, fmt.Errorf("produce in session %q: %w", s.id, s.fail(classify(err)))
	}
	s.produced += len(messages)
	return positions, nil
}

// CommitOffsets implements Session. Nothing is sent before End.
func (s *atOnce) CommitOffsets(ctx context.Context, group string, offsets []OffsetCommit) error {
	err := s.check()
	if err == nil {
		if err = s.stage(ctx, group, offsets); err != nil {
			err = s.fail(err)
		}
	}
	if err != nil {
		return fmt.Errorf("commit offsets of group %q in session %q: %w", group, s.id, err)
	}
	return nil
}

// stage checks what End would be refused for: there is no way back by then.
func (s *atOnce) stage(ctx context.Context, group string, offsets []OffsetCommit) error {
	for _, o := range offsets {
		if err := CheckCommit(o); err != nil {
			return err
		}
		info, err := s.owner.topic(ctx, o.Topic)
		if err != nil {
			return err
		}
		if o.TopicID != ([16]byte{}) && o.TopicID != info.id {
			return fmt.Errorf("topic %q has the id %x, not %x: %w", o.Topic, info.id, o.TopicID, ErrUnknownTopic)
		}
		o.TopicID = info.id
		if s.offsets[group] == nil {
			s.groups = append(s.groups, group)
			s.offsets[group] = map[event.TopicPartition]OffsetCommit{}
		}
		s.offsets[group][o.TopicPartition] = o
	}
	return nil
}

// End implements Session. All messages are acknowledged by now, so that what the groups are going to say is true.
func (s *atOnce) End(ctx context.Context) error {
	err := s.check()
	if err == nil && s.produced == 0 {
		s.state = txnDead // as where there are transactions
		err = fmt.Errorf("no message was produced: %w", ErrSessionState)
	}
	if err != nil {
		return fmt.Errorf("end in session %q: %w", s.id, err)
	}
	for _, group := range s.groups {
		if err := s.commit(ctx, group); err != nil {
			s.state = txnLost
			return fmt.Errorf("end in session %q: commit offsets of group %q: %w", s.id, group, err)
		}
	}
	s.state = txnIdle
	if s.member == nil {
		s.state = txnSpent
	}
	return nil
}

// commit commits the offsets of a group and reads them back. Its error wraps ErrUnknownOutcome unless nothing was committed.
func (s *atOnce) commit(ctx context.Context, group string) error {
	req := s.request(group)
	before := s.commits.n.Load()
	err := repeat(ctx, s.owner.opts.RetryFor, func() error { return commitOnce(ctx, s.kgo, req) })
	if err != nil {
		err = memberError(err)
		if errors.Is(err, ErrFenced) && s.commits.n.Load() == before+1 && group == s.groups[0] {
			return err
		}
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	if s.member != nil && group == s.id {
		s.member.seen, s.committed = time.Now(), true
	}
	got, err := s.owner.Group(ctx, group)
	if err != nil {
		return fmt.Errorf("%w: read back: %w", ErrUnknownOutcome, err)
	}
	for tp, o := range s.offsets[group] {
		if c := got[tp]; c != o.Committed {
			return fmt.Errorf("%s/%d: offset %d was committed, and then %d by another session: %w", tp.Topic, tp.Partition, o.Offset, c.Offset, ErrFenced)
		}
	}
	return nil
}

// request is the offset commit of a group: as its member where the session is that, else as one who is no member of any.
func (s *atOnce) request(group string) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation, req.MemberID = group, -1, ""
	if s.member != nil && group == s.id {
		req.Generation, req.MemberID, req.InstanceID = s.member.generation, s.member.id, new(memberName)
	}
	for _, o := range s.offsets[group] {
		i := slices.IndexFunc(req.Topics, func(t kmsg.OffsetCommitRequestTopic) bool { return t.Topic == o.Topic })
		if i < 0 {
			i = len(req.Topics)
			t := kmsg.NewOffsetCommitRequestTopic()
			t.Topic, t.TopicID = o.Topic, o.TopicID
			req.Topics = append(req.Topics, t)
		}
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = o.TopicPartition.Partition, o.Offset, -1, new(o.Metadata)
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p)
	}
	return req
}

func commitOnce(ctx context.Context, cl wire, req *kmsg.OffsetCommitRequest) error {
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return err
	}
	for i, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				name := t.Topic // newer versions have the id instead
				if name == "" && i < len(req.Topics) {
					name = req.Topics[i].Topic
				}
				return fmt.Errorf("%s/%d: %w", name, p.Partition, err)
			}
		}
	}
	return nil
}

// Close implements Session. It takes up to 2 s if the broker cannot be reached. A session that has committed stays a member until
// the next one replaces it, or the coordinator forgets it: an empty group is one whose next member has to wait.
func (s *atOnce) Close() {
	if s.member != nil && s.state != txnLost && !s.committed {
		s.leave()
	}
	s.state, s.member = txnLost, nil
	s.kgo.Close()
}

// leave ends the membership, so that who is no member can commit for the group. An error changes nothing: it ends by itself.
func (s *atOnce) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group, req.MemberID = s.id, s.member.id
	m := kmsg.NewLeaveGroupRequestMember()
	m.MemberID, m.InstanceID = s.member.id, new(memberName)
	req.Members = append(req.Members, m)
	_, _ = req.RequestWith(ctx, s.kgo)
}

// writes counts how often a client has sent a request, or has tried to: whether a refusal is the answer to the only one sent.
type writes struct {
	key kmsg.Key
	n   atomic.Int64
}

// OnBrokerWrite implements kgo.HookBrokerWrite.
func (w *writes) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, _ error) {
	if key == w.key.Int16() {
		w.n.Add(1)
	}
}
