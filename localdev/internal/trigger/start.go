package trigger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// hearsay is how long a broker may take to hear of a topic that the controller has made.
const hearsay = 2 * time.Second

// start is where and with how many members the group begins.
type start struct {
	offset  kgo.Offset // of partitions without a committed one
	pollers int
}

// begin settles where the group begins. For LATEST and AT_TIMESTAMP it commits offsets of partitions for which the group has none,
// before the group has a member: what is published from now on is delivered, also if it is published before the first member has
// asked where the log ends.
func (t *trigger) begin(ctx context.Context) (start, error) {
	s := start{offset: kgo.NewOffset().AtStart()}
	cl, err := kgo.NewClient(kgo.SeedBrokers(t.Brokers...), kgo.ClientID(clientID), kgo.MetadataMinAge(hearsay/20)) // else known gets what it got before
	if err != nil {
		return s, err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	topics, err := t.known(ctx, adm)
	if err != nil {
		return s, fmt.Errorf("partitions of %q: %w", t.Topics, err)
	}
	partitions := 0
	topics.EachPartition(func(kadm.PartitionDetail) { partitions++ })
	s.pollers = min(t.MinPollers, partitions)
	var at kadm.ListedOffsets
	switch t.Start {
	case TrimHorizon:
		return s, nil
	case Latest:
		at, err = adm.ListCommittedOffsets(ctx, t.Topics...)
	case AtTimestamp:
		at, err = adm.ListOffsetsAfterMilli(ctx, t.StartingTime.UnixMilli(), t.Topics...)
	}
	if err == nil {
		err = at.Error()
	}
	if err != nil {
		return s, fmt.Errorf("where %q begins at %s: %w", t.Topics, t.Start, err)
	}
	joined, err := t.commitStart(ctx, adm, at)
	if joined {
		s.offset = kgo.NewOffset().AtEnd()
		if t.Start == AtTimestamp {
			s.offset = kgo.NewOffset().AfterMilli(t.StartingTime.UnixMilli())
		}
	}
	return s, err
}

// known returns the topics once brokers know all of them: one that has just been made may be unknown to a broker for a moment, for
// which it waits up to hearsay.
func (t *trigger) known(ctx context.Context, adm *kadm.Client) (kadm.TopicDetails, error) {
	again := time.NewTicker(hearsay / 20)
	defer again.Stop()
	for end := time.Now().Add(hearsay); ; {
		topics, err := adm.ListTopics(ctx, t.sources()...)
		if err == nil {
			err = topics.Error()
		}
		if !errors.Is(err, kerr.UnknownTopicOrPartition) || time.Now().After(end) {
			return topics, err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// sources are the topics that have to be there.
func (t *trigger) sources() []string {
	if t.OnFailure == "" {
		return t.Topics
	}
	return append([]string{t.OnFailure}, t.Topics...)
}

// commitStart commits the offsets of partitions for which the group has none. It reports whether somebody else is a member of the
// group, so that only a member can commit: Lambda, too, shares the partitions with such a one.
func (t *trigger) commitStart(ctx context.Context, adm *kadm.Client, at kadm.ListedOffsets) (joined bool, err error) {
	have, err := adm.FetchOffsets(ctx, t.Group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return false, fmt.Errorf("offsets of group %s: %w", t.Group, err)
	}
	begin := kadm.Offsets{}
	at.Each(func(l kadm.ListedOffset) {
		if o, ok := have.Lookup(l.Topic, l.Partition); !ok || o.At < 0 {
			begin.AddOffset(l.Topic, l.Partition, l.Offset, -1)
		}
	})
	if len(begin) == 0 {
		return false, nil
	}
	committed, err := adm.CommitOffsets(ctx, t.Group, begin)
	if err == nil {
		err = committed.Error()
	}
	if errors.Is(err, kerr.UnknownMemberID) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("commit where group %s begins: %w", t.Group, err)
	}
	return false, nil
}
