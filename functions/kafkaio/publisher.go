package kafkaio

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// epochPerTransaction is the transaction.version of a cluster from which on every transaction has an epoch of its own
// (KIP-890): a delayed EndTxn cannot hit a later transaction of the same session.
const epochPerTransaction = 2

// Open implements Publisher. Each session has a kgo client of its own, and with it connections of its own.
func (c *Client) Open(ctx context.Context, transactionalID string) (Session, error) {
	has, err := c.features(ctx)
	if err == nil && !has.transactions {
		err = ErrNoTransactions // the client would go on without an epoch, and without a word
	}
	if err != nil {
		return nil, fmt.Errorf("open session %q: %w", transactionalID, err)
	}
	version := has.transactionVersion
	ends := &writes{key: kmsg.EndTxn}
	opts := []kgo.Opt{
		kgo.TransactionalID(transactionalID),
		kgo.TransactionTimeout(c.opts.TransactionTimeout),
		kgo.WithHooks(ends),
	}
	if version < epochPerTransaction {
		opts = append(opts, kgo.MaxVersions(versionsBeforeEpochs()))
	}
	cl, err := c.opts.connect(opts...)
	if err != nil {
		return nil, fmt.Errorf("open session %q: %w", transactionalID, err)
	}
	s := &session{owner: c, kgo: cl, id: transactionalID, version: version, ends: ends}
	if err := s.init(ctx); err != nil {
		cl.Close()
		if errors.Is(err, kerr.UnsupportedVersion) {
			err = fmt.Errorf("%w: %w", ErrNoTransactions, err)
		}
		return nil, fmt.Errorf("open session %q: %w", transactionalID, classify(err))
	}
	return s, nil
}

// init gets the epoch: the coordinator first aborts the open transaction of an older session, or completes one that was
// decided, and answers after that only.
func (s *session) init(ctx context.Context) error {
	return repeat(ctx, s.owner.opts.RetryFor, func() error {
		_, _, err := s.kgo.ProducerID(ctx)
		return err
	})
}

// versionsBeforeEpochs are the highest requests to be used where transaction.version is below 2, though the broker may know
// higher ones: those mean "the transaction is added to implicitly" and "the epoch moves with every transaction".
func versionsBeforeEpochs() *kversion.Versions {
	v := kversion.Tip()
	v.SetMaxKeyVersion(kmsg.Produce.Int16(), 11)
	v.SetMaxKeyVersion(kmsg.EndTxn.Int16(), 4)
	v.SetMaxKeyVersion(kmsg.TxnOffsetCommit.Int16(), 4)
	return v
}
