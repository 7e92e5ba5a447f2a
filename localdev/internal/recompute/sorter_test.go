package recompute

import (
	"bytes"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// Whatever does not fit into memory goes to files, and comes back in order; any number of times, and nothing is left behind.
func TestSorterSortsWhatDoesNotFit(t *testing.T) {
	for _, budget := range []int{1, 1000, 1 << 20} {
		dir := t.TempDir()
		s := newSorter(dir, budget)
		r := rand.New(rand.NewPCG(1, 2))
		var want []string
		for i := range 500 {
			key := appendInt(appendText(nil, []byte(strings.Repeat("k", r.IntN(3)))), r.Int64N(100)-50)
			key = appendInt(key, int64(i))
			if err := s.add(key, []byte{byte(i)}); err != nil {
				t.Fatal(err)
			}
			want = append(want, string(key)+"="+string([]byte{byte(i)}))
		}
		slices.Sort(want)
		for range 2 {
			c, err := s.cursor()
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for {
				key, value, ok, err := c.next()
				if err != nil {
					t.Fatal(err)
				}
				if !ok {
					break
				}
				got = append(got, string(key)+"="+string(value))
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Fatalf("budget %d (-want +got)\n%s", budget, d)
			}
		}
		if spilled := s.size > 0; spilled != (budget < 1<<20) {
			t.Errorf("budget %d: %d bytes in files", budget, s.size)
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%v, %v were left behind", left, err)
		}
	}
}

func FuzzKeysSortAsWhatTheyStandFor(f *testing.F) {
	f.Add([]byte("a"), int64(-1), []byte("a\x00"), int64(1))
	f.Add([]byte{0, 1}, int64(0), []byte{0}, int64(5))
	f.Fuzz(func(t *testing.T, a []byte, m int64, b []byte, n int64) {
		x, y := appendInt(appendText(nil, a), m), appendInt(appendText(nil, b), n)
		want := bytes.Compare(a, b)
		if want == 0 {
			want = int(max(-1, min(1, event.Time(m).Sub(event.Time(n)))))
		}
		if got := bytes.Compare(x, y); got != want {
			t.Errorf("(%q, %d) and (%q, %d): %d, want %d", a, m, b, n, got, want)
		}
		text, rest := cutText(x)
		if number, rest := cutInt(rest); !bytes.Equal(text, a) || number != m || len(rest) > 0 {
			t.Errorf("(%q, %d) comes back as (%q, %d)", a, m, text, number)
		}
	})
}
