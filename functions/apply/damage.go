package apply

import (
	"context"
	"errors"
	"fmt"

	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// Drop removes the slot of a partition because it is damaged, and says so: it is a cache, and the log rebuilds it. cause is what
// was found, and is returned if it is no damage; state of a newer version is none. An error of the store is returned with it.
func (a *Applier) Drop(ctx context.Context, part kafkaio.Partition, cause error) error {
	s := a.slot(part)
	s.mu.Lock()
	defer s.mu.Unlock()
	return a.drop(ctx, part, s, cause)
}

func (a *Applier) drop(ctx context.Context, part kafkaio.Partition, s *slot, cause error) error {
	if !errors.Is(cause, statestore.ErrFormat) || errors.Is(cause, statestore.ErrVersion) {
		return cause
	}
	s.known, s.refused = false, nil
	if err := a.Store.Drop(ctx, s.id); err != nil {
		return fmt.Errorf("%w; and it could not be dropped: %w", cause, err)
	}
	a.Logger.ErrorContext(ctx, "state of a partition was damaged; it was dropped, the log rebuilds it", "pipeline", a.Pipeline.Name,
		"topic", part.Topic, "partition", part.Partition, "error", cause)
	return nil
}
