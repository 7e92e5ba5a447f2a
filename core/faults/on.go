//go:build faults

package faults

import (
	"fmt"
	"sync/atomic"
)

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

var names = [rules]string{
	Genesis: "genesis", GapFetch: "gap_fetch", Validate: "validate", AdoptCheck: "adopt_check", AdoptFence: "adopt_fence", RaiseCut: "raise_cut",
	RaiseBase: "raise_base", RaiseSeen: "raise_seen", RaiseFence: "raise_fence", Admissible: "admissible", ReadCut: "read_cut",
	CutInSlot: "cut_in_slot", CASCut: "cas_cut", Tokens: "tokens", RaiseOnce: "raise_once", Fencing: "fencing", CatchUp: "catchup",
	CompactCut: "compact_cut", OutboxBase: "outbox_base", ReplayLate: "rf_late", SkewLog: "skew_log", SessionList: "sess_list",
	SessionTime: "sess_time", SessionWipe: "sess_wipe", CompactionCheck: "comp_check",
	PlanAfterOpen: "plan_after_open", IndexAfterRaise: "index_after_raise", SharedFence: "shared_fence",
}

// String returns the rule's name.
func (r Rule) String() string {
	if r >= rules {
		return fmt.Sprintf("Rule(%d)", uint8(r))
	}
	return names[r]
}
