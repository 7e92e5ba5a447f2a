// Package faults names the rules that keep results exact, so that the simulation can switch one off and has to find out what
// goes wrong without it. In release builds, which lack the build tag `faults`, Off is the constant false: no rule can be
// switched off, and the compiler leaves out what stands behind the question.
package faults

// Rule is one rule of the protocol.
type Rule uint8

// The rules. The comments say what holds while the rule is on.
const (
	Genesis         Rule = iota // nothing is folded before the group has a partition's start offset
	GapFetch                    // a gap before a batch is read from the log
	Validate                    // fire restores slots that lack the committed token
	AdoptCheck                  // a slot is adopted only if it is not ahead of the plan, in offset and in fence
	AdoptFence                  // the second half of that
	RaiseCut                    // a raise is refused where the committed token is missing
	RaiseBase                   // ... where applied is below the plan's offset
	RaiseSeen                   // ... where applied is below what the status saw
	RaiseFence                  // ... where the fence is above W; and W is not below any fence seen
	Admissible                  // W moves only past partitions that have passed it or are caught up
	ReadCut                     // a read is refused where the raise's token is missing
	CutInSlot                   // a replay is divided at the cuts of the slot
	CASCut                      // a commit compares the token of the newest cut
	Tokens                      // cuts are told apart by tokens (off: by offset and watermark)
	RaiseOnce                   // no raise reaches the store twice
	Fencing                     // all firers of a pipeline share one transactional id
	CatchUp                     // fire folds what the trigger will not deliver again
	CompactCut                  // compaction stays below the plan's offset
	OutboxBase                  // outbox entries below the plan before are not published again
	ReplayLate                  // replayFrom covers windows that are open for late records
	SkewLog                     // the future is judged by the record's Kafka timestamp (off: by the clock)
	SessionList                 // a replay knows which records sessions refused
	SessionTime                 // sessions refuse by a record's own time (off: by the end of a session of its own)
	SessionWipe                 // with sessions a slot without the committed token is never adopted
	CompactionCheck             // a compaction replaces exactly what it read, or nothing
	PlanAfterOpen               // the plan that is built on is read after the session was opened
	IndexAfterRaise             // the slices to read are looked up after the raise
	SharedFence                 // pipelines share a fold only where the fence of each does the same with every record
	rules
)
