package apply_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
)

// A plan has ended if all of it has. What ended in an earlier life of the pipeline, and is not in this one, is no base.
func TestAPlanHasEndedIfAllOfItHas(t *testing.T) {
	commitment := func(plan int64, ended bool) kafkaio.Committed {
		c := pipeline.Commitment{Plan: plan, Watermark: event.Time(10 * plan), At: event.Time(100 * plan), Ended: ended}
		return kafkaio.Committed{Offset: plan, Metadata: string(pipeline.AppendCommitment(nil, &c))}
	}
	for name, c := range map[string]struct {
		group      map[int32]kafkaio.Committed
		ended      bool
		number     int64
		partitions []int32
	}{
		"nothing":        {nil, false, 0, nil},
		"live":           {map[int32]kafkaio.Committed{0: commitment(3, false), 1: commitment(3, false)}, false, 3, []int32{0, 1}},
		"ended":          {map[int32]kafkaio.Committed{0: commitment(3, true), 1: commitment(3, true)}, true, 3, []int32{0, 1}},
		"a second life":  {map[int32]kafkaio.Committed{0: commitment(5, false), 1: commitment(3, true)}, false, 5, []int32{0}},
		"no offset left": {map[int32]kafkaio.Committed{0: {Offset: -1}, 1: commitment(3, true)}, true, 3, []int32{1}},
	} {
		log := memlog.New(memlog.Options{})
		group := map[event.TopicPartition]kafkaio.Committed{}
		for p, o := range c.group {
			group[event.TopicPartition{Topic: "t", Partition: p}] = o
		}
		log.SetGroup("g", group)
		plan, err := apply.ReadGroup(t.Context(), log, "g")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var partitions []int32
		for p := range int32(2) {
			if _, ok := plan.Partitions[event.TopicPartition{Topic: "t", Partition: p}]; ok {
				partitions = append(partitions, p)
			}
		}
		if diff := cmp.Diff(c.partitions, partitions); plan.Ended != c.ended || plan.Number != c.number || diff != "" {
			t.Errorf("%s: ended %v, plan %d, partitions (-want +got):\n%s", name, plan.Ended, plan.Number, diff)
		}
	}
}
