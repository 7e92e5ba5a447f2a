// Package apply brings the state of a partition up to date: it reads the committed plan, restores slots, repairs gaps from the
// log, folds and commits. Ingest and fire share it, so that a record is folded by the same rules whoever does it.
package apply

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
)

var (
	// ErrNoGenesis is returned when the pipeline's group has no offset for a partition: fire has to begin it first. The records
	// stay in the log, and the trigger comes again.
	ErrNoGenesis = errors.New("apply: partition has no genesis yet")
	// ErrEnded is returned when a newer version of the pipeline took over.
	ErrEnded = errors.New("apply: pipeline ended, a newer version took over")
	// ErrTopicChanged is returned when a topic was deleted and made anew since the committed plan: its offsets mean other records
	// now. Fire halts and says what to do.
	ErrTopicChanged = errors.New("apply: topic was made anew")
	// ErrLedgerGone is returned when the metadata of a plan names a ledger record that the topic no longer has: the ledger's
	// retention is shorter than that of the source topics. Restore the record or start a new pipeline.
	ErrLedgerGone = errors.New("apply: ledger record of the committed plan is gone")
)

// Plan is the committed plan of a pipeline, as its group tells it.
type Plan struct {
	Number     int64
	Watermark  event.Time
	At         event.Time
	Ended      bool
	Panes      *pipeline.PanesSpan // where the pane history is; nil: it is empty
	Partitions map[event.TopicPartition]Base
}

// Base is the committed prefix of a partition.
type Base struct {
	Offset int64 // o_p(n)
	pipeline.Commitment
}

// ReadPlan reads the committed plan of a pipeline. Without one, it has no partitions and the watermark is event.MinTime.
func ReadPlan(ctx context.Context, log kafkaio.Log, p *pipeline.Pipeline) (*Plan, error) {
	return ReadGroup(ctx, log, p.Group())
}

// ReadGroup reads the committed plan of a group, as ReadPlan does. The plan has ended if all of its partitions have; where a
// pipeline has taken over again, partitions that only its first life had are left out.
func ReadGroup(ctx context.Context, log kafkaio.Log, group string) (*Plan, error) {
	committed, err := log.Group(ctx, group)
	if err != nil {
		return nil, fmt.Errorf("read plan of group %s: %w", group, err)
	}
	plan := &Plan{Watermark: event.MinTime, At: event.MinTime, Partitions: make(map[event.TopicPartition]Base, len(committed))}
	ended := 0
	for tp, c := range committed {
		if c.Offset < 0 {
			continue
		}
		m, err := pipeline.DecodeCommitment(c.Metadata)
		if err != nil {
			return nil, fmt.Errorf("read plan of group %s, %s/%d: %w", group, tp.Topic, tp.Partition, err)
		}
		plan.Partitions[tp] = Base{Offset: c.Offset, Commitment: *m}
		if m.Ended {
			ended++
		}
	}
	if plan.Ended = ended > 0 && ended == len(plan.Partitions); ended > 0 && !plan.Ended {
		maps.DeleteFunc(plan.Partitions, func(_ event.TopicPartition, b Base) bool { return b.Ended })
	}
	for _, b := range plan.Partitions {
		plan.Number = max(plan.Number, b.Plan)
		plan.Watermark = max(plan.Watermark, b.Watermark)
		plan.At = max(plan.At, b.At)
	}
	for _, b := range plan.Partitions {
		if b.Panes != nil && b.Plan == plan.Number { // but for partitions that began with this plan
			plan.Panes = b.Panes
		}
	}
	return plan, nil
}

// refusedRecord is a ledger record that holds refused offsets which did not fit into metadata.
type refusedRecord struct {
	Refused string `json:"refused"` // base64 of pipeline.AppendRefused
}

// EncodeRefused is the value of the field "refused" of a ledger record.
func EncodeRefused(r []pipeline.Refusal) string {
	return base64.StdEncoding.EncodeToString(pipeline.AppendRefused(nil, r))
}

// refused returns the refused offsets of a committed partition, reading them from the ledger where the metadata says so.
func refused(ctx context.Context, log kafkaio.Log, b Base) ([]pipeline.Refusal, error) {
	if b.RefusedAt == nil {
		return b.Refused, nil
	}
	tp := event.TopicPartition{Topic: spec.LedgerTopic, Partition: b.RefusedAt.Partition}
	var out []pipeline.Refusal
	for _, o := range b.RefusedAt.Offsets {
		found := false
		err := log.Read(ctx, tp, o, o+1, func(records []event.Record, _ int64) error {
			for i := range records {
				var r refusedRecord
				if err := json.Unmarshal(records[i].Value, &r); err != nil {
					return fmt.Errorf("%s/%d offset %d: %w", tp.Topic, tp.Partition, o, err)
				}
				raw, err := base64.StdEncoding.DecodeString(r.Refused)
				if err != nil {
					return fmt.Errorf("%s/%d offset %d: %w", tp.Topic, tp.Partition, o, err)
				}
				if out, err = pipeline.DecodeRefused(out, raw); err != nil {
					return err
				}
				found = true
			}
			return nil
		})
		switch {
		case errors.Is(err, kafkaio.ErrOutOfRange) || err == nil && !found:
			return nil, fmt.Errorf("%s/%d offset %d: %w", tp.Topic, tp.Partition, o, ErrLedgerGone)
		case err != nil:
			return nil, fmt.Errorf("read refused offsets: %w", err)
		}
	}
	return out, nil
}
