package statestore

import (
	"errors"
	"fmt"
	"math"
)

// ErrInvalid is returned when an argument breaks the contract, which is a bug of the caller: written down, it would be state
// that cannot be read back. Nothing changed; retrying is of no use.
var ErrInvalid = errors.New("statestore: invalid argument")

const maxOwned = math.MaxUint32

// CheckSlot reports with ErrInvalid why s names no slot.
func CheckSlot(s Slot) error {
	if _, ok := parseHex([]byte(s.Pipeline), 16); !ok {
		return fmt.Errorf("%s: pipeline id %q is not 16 lower-case hex digits: %w", s, s.Pipeline, ErrInvalid)
	}
	if s.Shard < 0 || s.Shard > math.MaxInt32 {
		return fmt.Errorf("%s: shard %d: %w", s, s.Shard, ErrInvalid)
	}
	if s.Partition < 0 {
		return fmt.Errorf("%s: negative partition: %w", s, ErrInvalid)
	}
	return nil
}

// CheckDelta reports with ErrInvalid why r cannot be stored.
func CheckDelta(r DeltaRef) error {
	if r.From < 0 || r.To < r.From || r.Owned < 0 || r.Owned > maxOwned {
		return fmt.Errorf("delta [%d, %d) of slice %d/%s, bucket %d, owning %d: %w",
			r.From, r.To, r.Slice.Window, r.Slice.Start, r.Bucket, r.Owned, ErrInvalid)
	}
	return nil
}

// CheckRestore reports with ErrInvalid what of a Restore cannot be stored.
func CheckRestore(s Slot, r Restore) error {
	if err := CheckSlot(s); err != nil {
		return err
	}
	if r.Offset < 0 || r.ReplayFrom < 0 {
		return fmt.Errorf("restore %s at offset %d, replay from %d: %w", s, r.Offset, r.ReplayFrom, ErrInvalid)
	}
	for _, d := range r.Refused {
		if d.Slice.Window != ListRefused {
			return fmt.Errorf("restore %s: refused offsets in list %d: %w", s, d.Slice.Window, ErrInvalid)
		}
		if err := CheckDelta(d.Ref); err != nil {
			return fmt.Errorf("restore %s: %w", s, err)
		}
	}
	return nil
}

// CheckCommit reports with ErrInvalid what of a Commit breaks the contract, as far as the arguments alone can tell.
func CheckCommit(s Slot, c Commit) error {
	if err := CheckSlot(s); err != nil {
		return err
	}
	if c.Applied < 0 || c.To < c.Applied {
		return fmt.Errorf("commit %s [%d, %d): %w", s, c.Applied, c.To, ErrInvalid)
	}
	for _, d := range c.Deltas {
		if err := CheckDelta(d.Ref); err != nil {
			return fmt.Errorf("commit %s: %w", s, err)
		}
		if d.From < c.Applied || d.To > c.To {
			return fmt.Errorf("commit %s [%d, %d) with a delta [%d, %d): %w", s, c.Applied, c.To, d.From, d.To, ErrInvalid)
		}
	}
	return nil
}

// CheckSweep reports with ErrInvalid what of a Sweep breaks the contract, as far as the arguments alone can tell.
func CheckSweep(s Slot, w Sweep) error {
	if err := CheckSlot(s); err != nil {
		return err
	}
	for _, r := range w.Replace {
		var slice SliceID
		switch {
		case len(r.Remove) > 0:
			slice = r.Remove[0].Slice
		case len(r.With) > 0:
			slice = r.With[0].Slice
		}
		for _, ref := range r.Remove {
			if ref.Slice != slice {
				return fmt.Errorf("sweep %s: a replacement in two slices: %w", s, ErrInvalid)
			}
		}
		for _, d := range r.With {
			if d.Slice != slice {
				return fmt.Errorf("sweep %s: a replacement in two slices: %w", s, ErrInvalid)
			}
			if err := CheckDelta(d.Ref); err != nil {
				return fmt.Errorf("sweep %s: %w", s, err)
			}
		}
	}
	return nil
}

// CheckImport reports with ErrInvalid what of an image cannot be a slot. What its payloads mean it cannot tell.
func CheckImport(s Slot, m Image) error {
	if err := CheckSlot(s); err != nil {
		return err
	}
	if m.Applied < 0 || m.Base.Offset < 0 || m.Top.Offset < 0 {
		return fmt.Errorf("import %s at offset %d, with cuts at %d and %d: %w", s, m.Applied, m.Base.Offset, m.Top.Offset, ErrInvalid)
	}
	type identity struct {
		slice  SliceID
		from   int64
		bucket uint8
	}
	seen := make(map[identity]struct{}, len(m.Deltas))
	for _, d := range m.Deltas {
		if err := CheckDelta(d.Ref); err != nil {
			return fmt.Errorf("import %s: %w", s, err)
		}
		if !m.Covers(d.Ref) {
			return fmt.Errorf("import %s at offset %d, with a delta [%d, %d): %w", s, m.Applied, d.From, d.To, ErrInvalid)
		}
		id := identity{d.Slice, d.From, d.Bucket}
		if _, twice := seen[id]; twice {
			return fmt.Errorf("import %s: two deltas at offset %d of slice %d/%s, bucket %d: %w", s, d.From, d.Slice.Window, d.Slice.Start, d.Bucket, ErrInvalid)
		}
		seen[id] = struct{}{}
	}
	return nil
}
