package spec

import _ "embed"

//go:embed example.yaml
var example string

// Example returns a spec with every part that is in use and a comment on each: a file to begin with.
func Example() string { return example }
