package window_test

import (
	"fmt"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// A sliding window of a minute that begins every 20 s: each time is in three of them, which take it until their lateness is over.
func ExampleDefinition_Windows() {
	d := window.Definition{Name: "1m", Kind: window.KindSliding, Size: 60_000, Slide: 20_000, Lateness: 5_000}
	at := event.Time(70_000)
	for _, w := range d.Windows(nil, at) {
		fmt.Println(w)
	}
	fmt.Println(d.Accepts(at, 124_999), d.Accepts(at, 125_000))
	// Output:
	// [1970-01-01T00:00:20Z, 1970-01-01T00:01:20Z)
	// [1970-01-01T00:00:40Z, 1970-01-01T00:01:40Z)
	// [1970-01-01T00:01:00Z, 1970-01-01T00:02:00Z)
	// true false
}

// Records that are less than a gap apart are one session. One that comes later may make one of two.
func ExampleMergeFragments() {
	visits := []window.Fragment{{First: 0, Last: 40_000}, {First: 90_000, Last: 90_000}}
	show := func(all []window.Fragment) {
		window.MergeFragments(all, func(f *window.Fragment) window.Fragment { return *f }, 30_000, func(_, _ int, whole window.Fragment) {
			fmt.Println(whole.Window(30_000))
		})
	}
	show(visits)
	show([]window.Fragment{visits[0], {First: 65_000, Last: 65_000}, visits[1]})
	// Output:
	// [1970-01-01T00:00:00Z, 1970-01-01T00:01:10Z)
	// [1970-01-01T00:01:30Z, 1970-01-01T00:02:00Z)
	// [1970-01-01T00:00:00Z, 1970-01-01T00:02:00Z)
}
