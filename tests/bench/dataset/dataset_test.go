package dataset

import (
	"crypto/sha256"
	"fmt"
	"testing"
)

// The digest is that of the published figures' stream with 20,000 events: who changes the stream changes every comparison.
func TestStreamIsTheSameForEver(t *testing.T) {
	h := sha256.New()
	n := 0
	for s := New(20_000, 42); ; n++ {
		p, r, ok := s.Next()
		if !ok {
			break
		}
		fmt.Fprintf(h, "%d\x00%s\x00%s\n", p, r.Key, r.Value)
	}
	if n != 20_004 {
		t.Errorf("%d records, want 20004", n)
	}
	if got, want := fmt.Sprintf("%x", h.Sum(nil)), "929ccca567e2cfd666ee0d7774362c404021e06231c0ca8e9dcb8647c43fe50f"; got != want {
		t.Errorf("sha256 %s, want %s", got, want)
	}
}
