package fire

import (
	"encoding/json"
	"fmt"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
)

// ledgerEntry is one record of the ledger topic: what a plan was, for whoever wants to check the books.
type ledgerEntry struct {
	Pipeline    string            `json:"pipeline"`
	Fingerprint string            `json:"fingerprint"`
	Shard       int               `json:"shard"`
	Plan        int64             `json:"plan"`
	WatermarkMS *int64            `json:"watermark_ms"` // null before the first plan
	Timestamp   string            `json:"timestamp"`
	HeldBy      string            `json:"held_by"`
	TakesOver   string            `json:"takes_over,omitempty"` // of a genesis: the group that ended with it
	EndedBy     string            `json:"ended_by,omitempty"`   // the group that took over: the last record of a pipeline
	Partitions  []ledgerPartition `json:"partitions"`
	Refused     string            `json:"refused,omitempty"` // offsets that sessions refused and that did not fit into metadata
}

// ledgerPartition has the running totals of a partition since its genesis:
// in = final + open + late + dead + skipped + filtered + unassigned.
type ledgerPartition struct {
	Topic      string `json:"topic"`
	Partition  int32  `json:"partition"`
	Offset     int64  `json:"offset"`
	ReplayFrom int64  `json:"replay_from"`
	MaxTSMS    *int64 `json:"max_ts_ms"`
	In         int64  `json:"in"`
	Open       int64  `json:"open"`
	Final      int64  `json:"final"`
	Late       int64  `json:"late"`
	Dead       int64  `json:"dead"`
	Skipped    int64  `json:"skipped"`
	Filtered   int64  `json:"filtered"`
	Unassigned int64  `json:"unassigned"`
}

func newLedgerPartition(tp event.TopicPartition, b apply.Base, open int64) ledgerPartition {
	t := b.Totals
	return ledgerPartition{
		Topic: tp.Topic, Partition: tp.Partition, Offset: b.Offset, ReplayFrom: b.ReplayFrom, MaxTSMS: millis(b.MaxTime),
		In: t.In, Open: open, Final: t.Final, Late: t.Late, Dead: t.Dead, Skipped: t.Skipped, Filtered: t.Filtered, Unassigned: t.Unassigned,
	}
}

// unaccounted is the number of records that the books have lost. It is always 0.
func (l ledgerPartition) unaccounted() int64 {
	return l.In - l.Open - l.Final - l.Late - l.Dead - l.Skipped - l.Filtered - l.Unassigned
}

func millis(t event.Time) *int64 {
	if t == event.MinTime {
		return nil
	}
	ms := int64(t)
	return &ms
}

func (r *runner) ledgerRecord(plan int64, w, at event.Time, heldBy string, partitions []ledgerPartition) (kafkaio.Message, error) {
	return r.ledgerMessage(at, ledgerEntry{Plan: plan, WatermarkMS: millis(w), HeldBy: heldBy, Partitions: partitions})
}

// ledgerMessage fills in what all records have in common. A fingerprint that is there already is that of a pipeline of the same
// app and name.
func (r *runner) ledgerMessage(at event.Time, e ledgerEntry) (kafkaio.Message, error) {
	if e.Fingerprint == "" {
		e.Fingerprint = r.pipe.Fingerprint()
	}
	e.Pipeline, e.Timestamp = r.pipe.Name, at.String()
	if e.Partitions == nil {
		e.Partitions = []ledgerPartition{}
	}
	value, err := json.Marshal(e)
	if err != nil {
		return kafkaio.Message{}, fmt.Errorf("encode ledger record of plan %d: %w", e.Plan, err)
	}
	return kafkaio.Message{Topic: spec.LedgerTopic, Partition: -1, Key: []byte(r.kinPrefix() + e.Fingerprint), Value: value, Timestamp: at}, nil
}

// refusalsPerRecord keeps a ledger record with refused offsets below 512 KiB: each takes at most 14 bytes, and base64 adds a
// third.
const refusalsPerRecord = 24 << 10

// overflow returns ledger records for refused offsets that do not fit into metadata.
func (r *runner) overflow(plan int64, w, at event.Time, refused []pipeline.Refusal) ([]kafkaio.Message, error) {
	var out []kafkaio.Message
	for len(refused) > 0 {
		n := min(len(refused), refusalsPerRecord)
		m, err := r.ledgerMessage(at, ledgerEntry{Plan: plan, WatermarkMS: millis(w), HeldBy: "refused offsets", Refused: apply.EncodeRefused(refused[:n])})
		if err != nil {
			return nil, err
		}
		out = append(out, m)
		refused = refused[n:]
	}
	return out, nil
}
