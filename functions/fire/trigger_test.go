package fire_test

import (
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
)

// What the trigger has passed is folded from the log, in whichever of its groups it says so, and nothing beyond.
func TestFireCatchesUpToWhereTheTriggerIsInAnyOfItsGroups(t *testing.T) {
	for group, folded := range map[string]int64{"": 2, ":events": 2, ":others": 0} {
		t.Run("group"+group, func(t *testing.T) {
			b := newBench(t, tumbling, 1, memlog.Options{})
			b.run(t)
			b.append(t, 0, 1, 2, 3)
			tp := event.TopicPartition{Topic: "events"}
			b.log.SetGroup(b.app.Consumer.GroupID+group, map[event.TopicPartition]kafkaio.Committed{tp: {Offset: 2}})
			if rep := b.run(t); rep.Lag != 3-folded {
				t.Errorf("%d records are not folded, want %d", rep.Lag, 3-folded)
			}
		})
	}
}
