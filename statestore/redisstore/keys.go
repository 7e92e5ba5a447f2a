package redisstore

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// tagStart begins every key of every slot.
const tagStart = "{tm:"

// slotKeys makes the names of a slot's keys. They hold nothing that a user wrote.
type slotKeys struct{ prefix string }

// keysOf returns the keys of a slot that statestore.CheckSlot accepts.
func keysOf(s statestore.Slot) slotKeys {
	return slotKeys{prefix: fmt.Sprintf("%s%s:%d:%x:%d}:", tagStart, s.Pipeline, s.Shard, s.TopicID, s.Partition)}
}

func (k slotKeys) head() string { return k.prefix + "m" }

func (k slotKeys) list(id statestore.SliceID) string {
	return string(statestore.AppendSlice([]byte(k.prefix+"d:"), id))
}

// baseKeys is how many keys every script takes before those of lists.
const baseKeys = 3

// base returns them: head, slices and stage.
func (k slotKeys) base(extra int) []string {
	return append(make([]string, 0, baseKeys+extra), k.head(), k.prefix+"s", k.prefix+"r")
}

// headPattern matches the heads of a pipeline's slots, or of all slots if pipeline is empty.
func headPattern(pipeline string) string {
	if pipeline == "" {
		return tagStart + "*}:m"
	}
	return tagStart + pipeline + ":*}:m"
}

// parseHead returns the slot whose head is at key, without the name of its topic; false if it is no such key.
func parseHead(key string) (statestore.Slot, bool) {
	tag, ok := strings.CutSuffix(key, "}:m")
	if !ok {
		return statestore.Slot{}, false
	}
	tag, ok = strings.CutPrefix(tag, tagStart)
	parts := strings.Split(tag, ":")
	if !ok || len(parts) != 4 || len(parts[2]) != 32 {
		return statestore.Slot{}, false
	}
	shard, errShard := strconv.ParseInt(parts[1], 10, 32)
	topic, errTopic := statestore.ParseToken([]byte(parts[2])) // a topic id is written like a token
	partition, errPartition := strconv.ParseInt(parts[3], 10, 32)
	if errShard != nil || errTopic != nil || errPartition != nil {
		return statestore.Slot{}, false
	}
	s := statestore.Slot{Pipeline: parts[0], Shard: int(shard), TopicID: topic, Partition: int32(partition)}
	// One slot has one spelling: "+1" or "01" is not ours.
	if statestore.CheckSlot(s) != nil || keysOf(s).head() != key {
		return statestore.Slot{}, false
	}
	return s, true
}
