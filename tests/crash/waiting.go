package crash

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
)

// ledgerState says why a read_committed consumer may not see the newest plans: how far it is, where the ledger is stable, where it
// ends, and whose transactions are open.
func (s *stage) ledgerState(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var b strings.Builder
	tp := event.TopicPartition{Topic: spec.LedgerTopic}
	s.reader.mu.Lock()
	fmt.Fprintf(&b, "the consumer is at %d of the ledger", s.reader.next[tp])
	s.reader.mu.Unlock()
	if stable, err := s.admin.ListCommittedOffsets(ctx, tp.Topic); err == nil {
		o, _ := stable.Lookup(tp.Topic, tp.Partition)
		fmt.Fprintf(&b, ", which is stable up to %d", o.Offset)
	}
	if ends, err := s.admin.ListEndOffsets(ctx, tp.Topic); err == nil {
		o, _ := ends.Lookup(tp.Topic, tp.Partition)
		fmt.Fprintf(&b, " and ends at %d", o.Offset)
	}
	if producers, err := s.admin.DescribeProducers(ctx, kadm.TopicsSet{tp.Topic: {tp.Partition: {}}}); err == nil {
		producers.EachProducer(func(p kadm.DescribedProducer) {
			if p.CurrentTxnStartOffset >= 0 {
				fmt.Fprintf(&b, "; producer %d/%d has a transaction open from %d on", p.ProducerID, p.ProducerEpoch, p.CurrentTxnStartOffset)
			}
		})
	}
	if transactions, err := s.admin.DescribeTransactions(ctx); err == nil {
		for _, t := range transactions.Sorted() {
			if t.State != "CompleteCommit" && t.State != "CompleteAbort" && t.State != "Empty" {
				fmt.Fprintf(&b, "; %s (producer %d/%d) is %s", t.TxnID, t.ProducerID, t.ProducerEpoch, t.State)
			}
		}
	}
	return b.String()
}
