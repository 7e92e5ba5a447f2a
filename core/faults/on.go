//go:build faults

package faults

import "sync/atomic"

// off has a bit for each rule that is switched off. It is one for the whole process: a simulation runs with one set at a time.
var off atomic.Uint64

// Off reports whether a rule is switched off.
func Off(r Rule) bool { return off.Load()&(1<<r) != 0 }

// Switch switches the given rules off and all others on.
func Switch(rs ...Rule) {
	var set uint64
	for _, r := range rs {
		set |= 1 << r
	}
	off.Store(set)
}

// All lists the rules.
func All() []Rule {
	out := make([]Rule, 0, rules)
	for r := range rules {
		out = append(out, r)
	}
	return out
}
