package storetest

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// Signals runs the suite of statestore.Signals. open returns two that share their signals: of two processes.
func Signals(t *testing.T, open func(t *testing.T) (a, b statestore.Signals)) {
	t.Helper()
	long := time.Minute
	for name, run := range map[string]func(t *testing.T, a, b statestore.Signals, name string){
		"a message is taken once, as it was": func(t *testing.T, a, b statestore.Signals, name string) {
			message := []byte("look\x00at \xff this")
			posted, err := a.Post(t.Context(), name, message, long)
			is(t, "posted", true, posted, err)
			message[0] = 'x'
			got, ok, err := b.Take(t.Context(), name)
			is(t, "taken", true, ok, err)
			if diff := cmp.Diff([]byte("look\x00at \xff this"), got); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
			_, ok, err = a.Take(t.Context(), name)
			is(t, "taken again", false, ok, err)
		},
		"a message that waits is not replaced": func(t *testing.T, a, b statestore.Signals, name string) {
			posted, err := a.Post(t.Context(), name, []byte("first"), long)
			is(t, "posted", true, posted, err)
			posted, err = b.Post(t.Context(), name, []byte("second"), long)
			is(t, "posted again", false, posted, err)
			got, ok, err := a.Take(t.Context(), name)
			is(t, "taken", true, ok, err)
			if string(got) != "first" {
				t.Errorf("got %q", got)
			}
			posted, err = b.Post(t.Context(), name, nil, long)
			is(t, "posted after it was taken", true, posted, err)
			got, ok, err = a.Take(t.Context(), name)
			is(t, "taken", true, ok && len(got) == 0, err)
		},
		"a mark is held, renewed and released": func(t *testing.T, a, b statestore.Signals, name string) {
			held, err := b.Held(t.Context(), name)
			is(t, "held before", false, held, err)
			for range 2 {
				if err := a.Hold(t.Context(), name, long); err != nil {
					t.Fatal(err)
				}
			}
			held, err = b.Held(t.Context(), name)
			is(t, "held", true, held, err)
			for range 2 {
				if err := b.Release(t.Context(), name); err != nil {
					t.Fatal(err)
				}
			}
			held, err = a.Held(t.Context(), name)
			is(t, "held after", false, held, err)
		},
		"messages and marks of one name are apart, and so are names": func(t *testing.T, a, b statestore.Signals, name string) {
			if err := a.Hold(t.Context(), name, long); err != nil {
				t.Fatal(err)
			}
			posted, err := a.Post(t.Context(), name, []byte("m"), long)
			is(t, "posted", true, posted, err)
			_, ok, err := b.Take(t.Context(), name+"2")
			is(t, "taken of another name", false, ok, err)
			if err := b.Release(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			_, ok, err = b.Take(t.Context(), name)
			is(t, "taken", true, ok, err)
		},
		"both end with their time": func(t *testing.T, a, b statestore.Signals, name string) {
			posted, err := a.Post(t.Context(), name, []byte("m"), time.Millisecond)
			is(t, "posted", true, posted, err)
			if err := a.Hold(t.Context(), name, time.Millisecond); err != nil {
				t.Fatal(err)
			}
			for held := true; held; {
				if held, err = b.Held(t.Context(), name); err != nil || t.Context().Err() != nil {
					t.Fatal(err)
				}
			}
			for posted = false; !posted; {
				if posted, err = b.Post(t.Context(), name, []byte("n"), long); err != nil || t.Context().Err() != nil {
					t.Fatal(err)
				}
			}
			got, ok, err := a.Take(t.Context(), name)
			is(t, "taken", true, ok && string(got) == "n", err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := open(t)
			run(t, a, b, "test-"+rand.Text())
		})
	}
}

func is(t *testing.T, what string, want, got bool, err error) {
	t.Helper()
	if err != nil || got != want {
		t.Fatalf("%s: %t, %v; want %t", what, got, err, want)
	}
}
