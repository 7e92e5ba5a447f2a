package apply

import (
	"fmt"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/watermark"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// What fire decides from, as functions of what was read, so that whoever only looks comes to the same.

// Facts is what the watermark needs to know of a partition. Offsets must have been asked for after the status.
func Facts(tp event.TopicPartition, st *statestore.Status, o kafkaio.Offsets) watermark.Partition {
	return watermark.Partition{
		TopicPartition: tp, MaxTime: st.MaxTime, Applied: st.Applied, End: o.End, LastRecordAt: st.LastRecordAt, Fence: st.Top.Watermark,
		Blocked: o.Stable < o.End,
	}
}

// SlotStatus is what it takes to tell whether a plan is due.
func SlotStatus(b *Base, st *statestore.Status) pipeline.SlotStatus {
	return pipeline.SlotStatus{Since: b.Offset, EarlySince: b.EarlySince, MaxTime: st.MaxTime, Slices: st.Slices}
}

// Outside says why a slot and its log do not belong together, and what to do; empty if they do.
func Outside(tp event.TopicPartition, applied int64, o kafkaio.Offsets) string {
	switch {
	case o.Start > applied:
		return fmt.Sprintf("%s/%d: the log begins at offset %d, but the state needs it from %d: records were removed before they were folded; "+
			"they are lost to this pipeline: lengthen the topic's retention, and start a new pipeline under another name", tp.Topic, tp.Partition, o.Start, applied)
	case o.End < applied:
		return fmt.Sprintf("%s/%d: the log ends at offset %d, but the state has it up to %d: the broker lost records, which results have; bring "+
			"them back, or start a new pipeline under another name", tp.Topic, tp.Partition, o.End, applied)
	}
	return ""
}

// MadeAnew says that a topic has another identity than the plan's, and what to do.
func MadeAnew(tp event.TopicPartition, plan int64) string {
	return fmt.Sprintf("%s/%d: the topic was deleted and made anew since plan %d; its offsets mean other records now; "+
		"start a new pipeline under another name", tp.Topic, tp.Partition, plan)
}

// Stranger says that a slot of the pipeline is of a topic that it has no more, and what to do; empty if there is none. ids are the
// topics of the plan and of the partitions that have no genesis yet, one of which is called topic.
func Stranger(stored []statestore.Slot, ids map[[16]byte]bool, topic string) string {
	for _, slot := range stored {
		if !ids[slot.TopicID] {
			return fmt.Sprintf("the pipeline has state of a topic with the id %x, but %s is another one now: it was deleted and made anew, and its offsets mean "+
				"other records; start a new pipeline under another name, or drop the state to begin again", slot.TopicID, topic)
		}
	}
	return ""
}
