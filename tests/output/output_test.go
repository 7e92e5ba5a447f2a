package output_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/tests/output"
)

func TestNothingIsLostBetweenWritersAndOneWhoTakes(t *testing.T) {
	var b output.Buffer
	var writing sync.WaitGroup
	for w := range 4 {
		writing.Go(func() {
			for range 100 {
				fmt.Fprint(&b, w)
			}
		})
	}
	got := ""
	for range 50 {
		got += b.Take()
		_ = b.String() // at the same time as the others
	}
	writing.Wait()
	got += b.Take()
	for w := range 4 {
		if n := strings.Count(got, fmt.Sprint(w)); n != 100 {
			t.Errorf("%d of 100 writes of writer %d", n, w)
		}
	}
	if b.String() != "" {
		t.Errorf("%q was taken and is there", b.String())
	}
}

func TestTheLastBytesAreKept(t *testing.T) {
	b := output.Buffer{Last: 4}
	for _, text := range []string{"ab", "cd", "e", "fghijkl", ""} {
		if n, err := b.Write([]byte(text)); n != len(text) || err != nil {
			t.Errorf("%d, %v for %q", n, err, text)
		}
	}
	if got := b.String(); got != "ijkl" {
		t.Errorf("%q, want the last four bytes", got)
	}
}

func TestATextIsAwaited(t *testing.T) {
	var b output.Buffer
	go func() {
		for _, text := range []string{"read", "y: ", "7\n"} {
			fmt.Fprint(&b, text)
		}
	}()
	b.Await(t, "ready: 7")
}
