package kafkaio

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

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
	version, err := c.transactionVersion(ctx)
	if err != nil {
		return nil, fmt.Errorf("open session %q: %w", transactionalID, err)
	}
	ends := &endTxnWrites{}
	opts := []kgo.Opt{
		kgo.TransactionalID(transactionalID),
		kgo.TransactionTimeout(c.opts.TransactionTimeout),
		kgo.WithHooks(ends),
	}
	if version < epochPerTransaction {
		opts = append(opts, kgo.MaxVersions(versionsBeforeEpochs()))
	}
	cl, err := kgo.NewClient(c.opts.clientOpts(opts...)...)
	if err != nil {
		return nil, fmt.Errorf("open session %q: %w", transactionalID, err)
	}
	s := &session{owner: c, kgo: cl, id: transactionalID, version: version, ends: ends}
	if err := s.init(ctx); err != nil {
		cl.Close()
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

// transactionVersion asks for the finalized feature transaction.version; a broker that does not know it has 0. Asked for
// every session: the operator may raise it while this process runs.
func (c *Client) transactionVersion(ctx context.Context) (int16, error) {
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "tidemark", "1"
	resp, err := req.RequestWith(ctx, c.kgo)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return 0, fmt.Errorf("api versions: %w", err)
	}
	for _, f := range resp.FinalizedFeatures {
		if f.Name == "transaction.version" {
			return f.MaxVersionLevel, nil
		}
	}
	return 0, nil
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

// endTxnWrites counts how often a client has sent an EndTxn, or has tried to: whether a refusal is the answer to the only
// one sent.
type endTxnWrites struct{ n atomic.Int64 }

// OnBrokerWrite implements kgo.HookBrokerWrite.
func (w *endTxnWrites) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, _ error) {
	if key == kmsg.EndTxn.Int16() {
		w.n.Add(1)
	}
}
