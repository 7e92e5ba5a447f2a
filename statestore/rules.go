package statestore

import (
	"encoding/binary"
	"fmt"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/faults"
)

// The rules that change a head, for stores that compute in Go. A store whose rules are scripts says the same there; storetest
// holds all of them to one answer.

// After returns the head after a commit whose Applied and Top are those of m.
func (m Meta) After(c Commit) Meta {
	m.Applied = c.To
	m.MaxTime = max(m.MaxTime, c.MaxTime)
	if c.Now != event.MinTime {
		m.LastRecordAt = c.Now
	}
	return m
}

// Raised returns the head after a raise, or ErrRefused with the reason.
func (m Meta) Raised(r Raise) (Meta, error) {
	switch {
	case !m.HasCut(r.Base) && !faults.Off(faults.RaiseCut):
		return Meta{}, fmt.Errorf("no cut %x: %w", r.Base, ErrRefused)
	case m.Applied < r.BaseOffset && !faults.Off(faults.RaiseBase):
		return Meta{}, fmt.Errorf("applied is %d, below offset %d of the committed plan: %w", m.Applied, r.BaseOffset, ErrRefused)
	case m.Applied < r.Seen && !faults.Off(faults.RaiseSeen):
		return Meta{}, fmt.Errorf("applied is %d, was %d: %w", m.Applied, r.Seen, ErrRefused)
	case m.Top.Watermark > r.Watermark && !faults.Off(faults.RaiseFence):
		return Meta{}, fmt.Errorf("the fence is %s, beyond %s: %w", m.Top.Watermark, r.Watermark, ErrRefused)
	case m.HasCut(r.Token) && !faults.Off(faults.RaiseOnce) && !faults.Off(faults.Tokens):
		return Meta{}, fmt.Errorf("cut %x is there already: %w", r.Token, ErrRefused)
	}
	if m.Top.Token == r.Base {
		m.Base = m.Top
	}
	m.Top = Cut{Token: r.Token, Offset: m.Applied, Watermark: r.Watermark}
	if faults.Off(faults.Tokens) {
		m.Top.Token = valueToken(m.Top)
	}
	return m, nil
}

// Restored returns the head after a restore of a slot whose head is m (nil: there is none), and what it did. Created and Wiped
// say that the slot begins anew, with r.Refused and no other delta.
func Restored(m *Meta, r Restore) (Meta, Outcome) {
	cut := Cut{Token: r.Token, Offset: r.Offset, Watermark: r.Watermark}
	outcome := Created
	if m != nil {
		switch {
		case m.HasCut(r.Token):
			return *m, Present
		case (!r.NoAdopt || faults.Off(faults.SessionWipe)) && adoptable(m, r):
			adopted := *m
			adopted.Base, adopted.Top = cut, cut
			return adopted, Adopted
		}
		outcome = Wiped
	}
	return Meta{Applied: r.ReplayFrom, MaxTime: r.MaxTime, LastRecordAt: r.Now, Base: cut, Top: cut}, outcome
}

// adoptable reports whether a slot whose raise was lost may go on under the committed plan: it is not ahead of it.
func adoptable(m *Meta, r Restore) bool {
	offset := m.Applied <= r.Offset || faults.Off(faults.AdoptCheck)
	fence := m.Top.Watermark <= r.Watermark || faults.Off(faults.AdoptCheck) || faults.Off(faults.AdoptFence)
	return offset && fence
}

// valueToken is what a token would be if cuts were told apart by their values: for the simulation, which shows why they are not.
func valueToken(c Cut) (t Token) {
	binary.BigEndian.PutUint64(t[:8], uint64(c.Offset)+1)
	binary.BigEndian.PutUint64(t[8:], uint64(c.Watermark))
	return t
}

// Gone is the error for a delta that a plan is about and that is not stored any more.
func Gone(r DeltaRef) error {
	return fmt.Errorf("delta [%d, %d) of slice %d/%s, bucket %d, is gone: %w", r.From, r.To, r.Slice.Window, r.Slice.Start, r.Bucket, ErrRefused)
}
