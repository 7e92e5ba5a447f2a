package kafkaio

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Trial is a transaction that is tried and aborted.
type Trial struct {
	ID    string // transactional id, of nobody else: a session of it is fenced
	Topic string // where a message is produced that no read_committed reader ever sees
	Group string // for which an offset is committed that nobody ever sees
	// Source is the partition of that offset.
	Source Partition
}

// Trials of one id fence each other: the last one to open is the only one that can come to its end. Those that were fenced wait
// for a random time before they open again, from a range that doubles, so that in the end one is alone for as long as it takes.
const (
	firstContention = 50 * time.Millisecond // the range of the first pause: about what a trial takes
	mostContention  = 2 * time.Second       // the range of the longest ones
	contendFor      = 20 * time.Second      // no pause begins later than this after the first try
)

// TryTransaction does all that a plan's transaction does, up to the commit, and aborts it: a fresh epoch, a message, offsets of
// a group. It returns the cluster's transaction.version. A trial that another one of the same id has fenced begins again, for
// 20 s at most. The error wraps ErrNoTransactions, ErrTransactionTimeout, ErrNotAuthorized, ErrCoordinator or ErrUnknownTopic
// where it is one of these, and most often ErrFenced if there were others all the time.
func (c *Client) TryTransaction(ctx context.Context, t Trial) (version int16, err error) {
	err = contend(ctx, rand.N[time.Duration], func() (err error) {
		version, err = c.tryTransaction(ctx, t)
		return err
	})
	return version, err
}

// isContended reports whether another session of the id came in between. Brokers also say so by INVALID_TXN_STATE: to whoever
// adds to a transaction that the other one's Open has just aborted.
func isContended(err error) bool {
	return errors.Is(err, ErrFenced) || errors.Is(err, kerr.InvalidTxnState)
}

// contend calls try until no other came in between. random returns a duration in [0, n).
func contend(ctx context.Context, random func(n time.Duration) time.Duration, try func() error) error {
	began := time.Now()
	for within := firstContention; ; within = min(2*within, mostContention) {
		err := try()
		if err == nil || !isContended(err) || time.Since(began) >= contendFor {
			return err
		}
		pause := time.NewTimer(random(within))
		select {
		case <-ctx.Done():
			pause.Stop()
			return fmt.Errorf("%w (%w)", ctx.Err(), err)
		case <-pause.C:
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
