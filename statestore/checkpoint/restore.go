package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// Outcome is what became of a slot of a checkpoint.
type Outcome string

// The outcomes.
const (
	Imported Outcome = "imported" // it is in the store now, as it was
	Exists   Outcome = "exists"   // the store has it: what is there was left alone
	Foreign  Outcome = "foreign"  // it is of none of the pipelines asked for, or was not wanted
)

// Sink is what Import needs of a store.
type Sink interface {
	Load(ctx context.Context, slot statestore.Slot) (statestore.Meta, error)
	Import(ctx context.Context, slot statestore.Slot, image statestore.Image) error
}

// Result is what became of one slot.
type Result struct {
	Slot    statestore.Slot
	Applied int64 // of the checkpoint
	Deltas  int   // of an imported slot
	Outcome Outcome
}

// Import puts the slots of a checkpoint that wanted accepts into a store that lacks them, one slot in memory at a time, and tells
// each in the order of the file. It reads the file twice: nothing is imported from one that is newer (ErrVersion) or not whole
// (ErrDamaged).
func Import(ctx context.Context, store Sink, file io.ReadSeeker, wanted func(slot statestore.Slot, m statestore.Meta) bool, told func(Result)) (Header, error) {
	h, _, err := Read(file, Content{})
	if err != nil {
		return h, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return h, err
	}
	var failed error
	_, _, err = Read(file, Content{
		Want: func(_ Header, slot statestore.Slot, m statestore.Meta) bool {
			if failed != nil {
				return false
			}
			r := Result{Slot: slot, Applied: m.Applied, Outcome: Foreign}
			if wanted(slot, m) {
				switch _, err := store.Load(ctx, slot); {
				case errors.Is(err, statestore.ErrNoSlot):
					return true
				case err != nil:
					failed = err
					return false
				}
				r.Outcome = Exists // Import would say so too, after its deltas have been sent
			}
			told(r)
			return false
		},
		Slot: func(slot statestore.Slot, image statestore.Image) error {
			r := Result{Slot: slot, Applied: image.Applied, Deltas: len(image.Deltas), Outcome: Imported}
			err := store.Import(ctx, slot, image)
			switch {
			case errors.Is(err, statestore.ErrExists):
				r.Outcome, r.Deltas = Exists, 0
			case err != nil:
				return err
			}
			told(r)
			return nil
		},
	})
	if err = errors.Join(failed, err); err != nil {
		return h, fmt.Errorf("import: %w", err)
	}
	return h, nil
}
