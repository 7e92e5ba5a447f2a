package spec

import "strings"

// ReferenceExamples returns, by the path of its key, a spec of each example of the reference: the key inside its blocks. Where a
// spec has its source and results is not in it.
func ReferenceExamples() map[string]string {
	specs := map[string]string{}
	walk("", language(), func(path string, f *field) {
		if f.status != statusBuilt || strings.HasSuffix(path, "[]") {
			return
		}
		text := exampleOf(f)
		if f.with == "" {
			text = "{" + text + "}"
		}
		around := strings.Split(path, ".")
		for i := len(around) - 2; i >= 0; i-- {
			name, list := strings.CutSuffix(around[i], "[]")
			if list {
				text = "[" + text + "]"
			}
			text = "{" + name + ": " + text + "}"
		}
		specs[path] = text
	})
	return specs
}

// Anchor returns the name that GitHub gives a heading.
func Anchor(title string) string { return anchor(title) }
