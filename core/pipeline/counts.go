package pipeline

import (
	"encoding/binary"
	"fmt"
)

// Counts say what became of the records of an offset range, each record once. LateWindows alone counts windows: those that a
// record, accepted elsewhere, was too late for.
type Counts struct {
	In, Filtered, Unassigned, Skipped, Late, Dead, LateWindows int64
}

// Add returns the sum of two ranges.
func (c Counts) Add(o Counts) Counts {
	return Counts{
		In: c.In + o.In, Filtered: c.Filtered + o.Filtered, Unassigned: c.Unassigned + o.Unassigned, Skipped: c.Skipped + o.Skipped,
		Late: c.Late + o.Late, Dead: c.Dead + o.Dead, LateWindows: c.LateWindows + o.LateWindows,
	}
}

// taken returns the records that went into slices: nothing became of them but that.
func (c Counts) taken() int64 { return c.In - c.Filtered - c.Unassigned - c.Skipped - c.Late - c.Dead }

func (c *Counts) fields() [7]*int64 {
	return [7]*int64{&c.In, &c.Filtered, &c.Unassigned, &c.Skipped, &c.Late, &c.Dead, &c.LateWindows}
}

const countsVersion = 1

// AppendCounts appends the stored form: a version byte and seven varints.
func AppendCounts(dst []byte, c Counts) []byte {
	dst = append(dst, countsVersion)
	for _, f := range c.fields() {
		dst = binary.AppendUvarint(dst, uint64(*f))
	}
	return dst
}

// DecodeCounts reads the stored form. Errors wrap ErrPayload.
func DecodeCounts(b []byte) (Counts, error) {
	var c Counts
	rest, err := c.decode(b)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("counts: %d bytes too many: %w", len(rest), ErrPayload)
	}
	return c, err
}

func (c *Counts) decode(b []byte) ([]byte, error) {
	b, err := checkVersion(b, countsVersion, "counts")
	if err != nil {
		return nil, err
	}
	for _, f := range c.fields() {
		v, n := binary.Uvarint(b)
		if n <= 0 || int64(v) < 0 {
			return nil, fmt.Errorf("counts: cut short: %w", ErrPayload)
		}
		*f, b = int64(v), b[n:]
	}
	return b, nil
}
