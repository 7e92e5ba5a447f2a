package apply

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
)

// AskFor is how long a message to a firer waits for it. A nudge that got lost is made up for by the next one after that.
const AskFor = 5 * time.Second

// SignalName is under what name the functions of some pipelines leave signals for each other.
func SignalName(pipes []*pipeline.Pipeline) string {
	h := sha256.New()
	for _, p := range pipes {
		h.Write([]byte(p.ID()))
	}
	return "fire:" + hex.EncodeToString(h.Sum(nil)[:8])
}

// Nudge is the payload with which ingest asks fire to run. Every field is optional: fire looks for itself at what there is to do.
type Nudge struct {
	// Genesis names the first offset that ingest was handed of partitions that have no genesis. It matters only where a pipeline
	// starts at the latest offset: the genesis then takes it.
	Genesis []First `json:"genesis,omitempty"`
	// TakeOver asks pipelines that have ended to go on where their successor is now, which ends with that: somebody deployed an
	// earlier spec again, and says so.
	TakeOver bool `json:"takeover,omitempty"`
}

// Add makes n ask for what m asks for too. Of two first offsets of a partition the lower one counts.
func (n *Nudge) Add(m Nudge) {
	n.TakeOver = n.TakeOver || m.TakeOver
next:
	for _, f := range m.Genesis {
		for i := range n.Genesis {
			if g := &n.Genesis[i]; g.Topic == f.Topic && g.Partition == f.Partition {
				g.Offset = min(g.Offset, f.Offset)
				continue next
			}
		}
		n.Genesis = append(n.Genesis, f)
	}
}

// First is the first offset of a partition that the trigger delivered.
type First struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}
