package trigger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/llm-auto-optimizer/tidemark/functions/esm"
)

// ErrAnswer is returned for a partial-batch answer that names what was not in the batch, or is none. The whole batch is retried.
var ErrAnswer = errors.New("trigger: not a partial-batch answer")

// Failures reads a partial-batch answer. Nothing at all, null, an object without failures, and failures that are null or an empty
// list mean that all is done. Each failure has to name its partition, as the event did, and its offset, a whole number.
func Failures(answer []byte) ([]esm.Failure, error) {
	if len(bytes.TrimSpace(answer)) == 0 {
		return nil, nil
	}
	bad := func(what string, err error) error {
		if err != nil {
			what += ": " + err.Error()
		}
		return fmt.Errorf("%w: %s: %.200q", ErrAnswer, what, answer)
	}
	var root map[string]json.RawMessage // names are to be exact, which they need not be in a struct
	if err := json.Unmarshal(answer, &root); err != nil {
		return nil, bad("want an object", err)
	}
	if root["batchItemFailures"] == nil {
		return nil, nil
	}
	var items []map[string]json.RawMessage
	if err := json.Unmarshal(root["batchItemFailures"], &items); err != nil {
		return nil, bad("batchItemFailures", err)
	}
	var out []esm.Failure
	for i, item := range items {
		var id map[string]json.RawMessage
		var partition *string
		var offset *int64
		err := json.Unmarshal(orNull(item["itemIdentifier"]), &id)
		if err == nil {
			err = errors.Join(json.Unmarshal(orNull(id["partition"]), &partition), json.Unmarshal(orNull(id["offset"]), &offset))
		}
		if err != nil || partition == nil || offset == nil {
			return nil, bad(fmt.Sprintf("batchItemFailures[%d] has no itemIdentifier with partition and offset", i), err)
		}
		out = append(out, esm.Failure{Partition: *partition, Offset: *offset})
	}
	return out, nil
}

func orNull(raw json.RawMessage) json.RawMessage {
	if raw == nil {
		return json.RawMessage("null")
	}
	return raw
}

// failed returns what an answer leaves of a batch: the records that it names, in their order. ErrAnswer if it names others.
func failed(parts []part, answer []byte) ([]part, error) {
	failures, err := Failures(answer)
	if err != nil || len(failures) == 0 {
		return nil, err
	}
	named := map[string]map[int64]bool{}
	for _, f := range failures {
		if named[f.Partition] == nil {
			named[f.Partition] = map[int64]bool{}
		}
		named[f.Partition][f.Offset] = true
	}
	var out []part
	for _, p := range parts {
		name := esm.EntryName(p.TopicPartition)
		offsets := named[name]
		if offsets == nil {
			continue
		}
		left := part{partition: p.partition}
		for _, r := range p.records {
			if offsets[r.Offset] {
				left.records = append(left.records, r)
				delete(offsets, r.Offset)
			}
		}
		for o := range offsets {
			return nil, fmt.Errorf("%w: offset %d of %s was not in the batch", ErrAnswer, o, name)
		}
		delete(named, name)
		out = append(out, left)
	}
	for name := range named {
		return nil, fmt.Errorf("%w: partition %.300q was not in the batch", ErrAnswer, name)
	}
	return out, nil
}
