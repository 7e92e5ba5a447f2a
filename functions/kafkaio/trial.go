package kafkaio

import (
	"context"
	"errors"
	"fmt"
)

// Trial is a transaction that is tried and aborted.
type Trial struct {
	ID    string // transactional id, of nobody else: a session of it is fenced
	Topic string // where a message is produced that no read_committed reader ever sees
	Group string // for which an offset is committed that nobody ever sees
	// Source is the partition of that offset.
	Source Partition
}

// trialTries is how often a trial begins again because another one of the same id came in between.
const trialTries = 5

// TryTransaction does all that a plan's transaction does, up to the commit, and aborts it: a fresh epoch, a message, offsets of
// a group. It returns the cluster's transaction.version. The error wraps ErrNoTransactions, ErrTransactionTimeout,
// ErrNotAuthorized, ErrCoordinator or ErrUnknownTopic where it is one of these.
func (c *Client) TryTransaction(ctx context.Context, t Trial) (version int16, err error) {
	for try := 1; ; try++ {
		version, err = c.tryTransaction(ctx, t)
		if err == nil || !errors.Is(err, ErrFenced) || try == trialTries {
			return version, err
		}
	}
}

func (c *Client) tryTransaction(ctx context.Context, t Trial) (version int16, err error) {
	f, err := c.features(ctx)
	if err != nil {
		return 0, err
	}
	opened, err := c.Open(ctx, t.ID)
	if err != nil {
		return f.transactionVersion, err
	}
	defer func() {
		opened.Close() // aborts
		// Brokers list a group for some minutes for which an offset was tried. Where it may not be deleted, it is only listed.
		_, _ = c.adm.DeleteGroups(ctx, t.Group)
	}()
	if err := opened.Begin(ctx); err != nil {
		return f.transactionVersion, err
	}
	message := Message{Topic: t.Topic, Partition: -1, Key: []byte(t.ID), Value: []byte(`{"preflight":"this transaction is aborted"}`)}
	if _, err := opened.Produce(ctx, []Message{message}); err != nil {
		return f.transactionVersion, fmt.Errorf("a message to %s: %w", t.Topic, err)
	}
	offset := OffsetCommit{Partition: t.Source, Committed: Committed{Metadata: "preflight"}}
	if err := opened.CommitOffsets(ctx, t.Group, []OffsetCommit{offset}); err != nil {
		return f.transactionVersion, err
	}
	return f.transactionVersion, nil
}
