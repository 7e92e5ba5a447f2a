//go:build !faults

package faults

// Off reports whether a rule is switched off: never in this build.
func Off(Rule) bool { return false }
