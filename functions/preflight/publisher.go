package preflight

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"

	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
)

// publisher publishes in transactions until it is told by the cluster that there are none, and from then on without: the look at
// the start may have come before the brokers or the topics were there.
type publisher struct {
	client *kafkaio.Client
	logger *slog.Logger
	atOnce atomic.Bool
}

// Open implements kafkaio.Publisher.
func (p *publisher) Open(ctx context.Context, id string) (kafkaio.Session, error) {
	if !p.atOnce.Load() {
		s, err := p.client.Open(ctx, id)
		if !errors.Is(err, kafkaio.ErrNoTransactions) {
			return s, err
		}
		if !p.atOnce.Swap(true) {
			p.logger.WarnContext(ctx, "the cluster has no transactions: delivery is at least once, and the highest revision of a result counts", "error", err)
		}
	}
	return p.client.AtOnce().Open(ctx, id)
}
