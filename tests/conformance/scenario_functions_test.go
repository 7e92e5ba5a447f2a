package conformance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/watermark"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/fire"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/boltstore"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
	"github.com/llm-auto-optimizer/tidemark/tests/oracle"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
)

// functionsEngine is the real handlers over a log in memory and a state store. Only the source of the watermark may be another.
type functionsEngine struct {
	world *rig.World
	pipe  *pipeline.Pipeline
	parts []kafkaio.Partition
	ends  []int64 // of the partitions in the log
	read  int     // results read so far
	low   fire.LowFunc

	reopen  func(old statestore.Store) (statestore.Store, error) // nil: the store and the functions live on
	cleanup func() error
}

// inMemory keeps the state in memory.
func inMemory(app *spec.App, pipe *pipeline.Pipeline, partitions int32, now event.Time) (engine, error) {
	e := &functionsEngine{pipe: pipe}
	return e, e.open(app, memstore.New(), partitions, now)
}

// inBolt keeps the state in a file, which is closed and opened again with every firing: nothing else outlives it.
func inBolt(dir string) newEngine {
	return func(app *spec.App, pipe *pipeline.Pipeline, partitions int32, now event.Time) (engine, error) {
		path := filepath.Join(dir, "state")
		e := &functionsEngine{pipe: pipe, cleanup: func() error { return os.RemoveAll(path) }}
		e.reopen = func(old statestore.Store) (statestore.Store, error) {
			if old != nil {
				if err := old.Close(); err != nil {
					return nil, err
				}
			}
			return boltstore.Open(path, boltstore.Options{})
		}
		store, err := e.reopen(nil)
		if err != nil {
			return nil, err
		}
		return e, e.open(app, store, partitions, now)
	}
}

// open makes the world, and the genesis of its partitions.
func (e *functionsEngine) open(app *spec.App, store statestore.Store, partitions int32, now event.Time) (err error) {
	if e.world, err = rig.New(app, store, memlog.New(memlog.Options{Scribble: true}), partitions); err != nil {
		return err
	}
	e.world.Low = func(p watermark.Policy, parts []watermark.Partition, last, now event.Time) watermark.Decision {
		return e.low(p, parts, last, now)
	}
	e.world.Restart()
	e.ends = make([]int64, partitions)
	if e.parts, err = e.world.Log.Partitions(context.Background(), []string{sourceTopic}); err != nil {
		return err
	}
	_, _, err = e.fire(context.Background(), now, hold)
	return err
}

func (e *functionsEngine) deliver(ctx context.Context, records []delivery, now event.Time) (total pipeline.Counts, err error) {
	before := make([]int64, len(e.parts))
	for i, part := range e.parts {
		meta, err := e.world.Store.Load(ctx, apply.SlotID(e.pipe, part))
		if err != nil {
			return total, err
		}
		before[i] = meta.Applied
	}
	payload := map[event.TopicPartition][]event.Record{}
	for _, d := range records {
		if d.record.Offset >= e.ends[d.partition] {
			if err := e.world.Log.Append(sourceTopic, d.partition, d.record); err != nil {
				return total, err
			}
			e.ends[d.partition] = d.record.Offset + 1
		}
		tp := e.parts[d.partition].TopicPartition
		payload[tp] = append(payload[tp], d.record)
	}
	e.world.Clock = now
	switch failed, err := e.world.Deliver(ctx, payload); {
	case err != nil:
		return total, err
	case failed > 0:
		return total, fmt.Errorf("ingest answered %d of %d offsets as failed", failed, len(records))
	}
	for i, part := range e.parts {
		counts, err := e.countsFrom(ctx, part, before[i])
		if err != nil {
			return total, err
		}
		total = total.Add(counts)
	}
	return total, nil
}

// countsFrom adds up what the state says of the offsets from one on.
func (e *functionsEngine) countsFrom(ctx context.Context, part kafkaio.Partition, from int64) (total pipeline.Counts, err error) {
	id := apply.SlotID(e.pipe, part)
	meta, err := e.world.Store.Load(ctx, id)
	if err != nil {
		return total, err
	}
	all, err := e.world.Store.Index(ctx, id, meta.Top.Token, []statestore.SliceID{{Window: statestore.ListCounts}})
	if err != nil {
		return total, err
	}
	var refs []statestore.DeltaRef
	for _, r := range all {
		if r.From >= from {
			refs = append(refs, r)
		}
	}
	payloads, err := e.world.Store.Read(ctx, id, meta.Top.Token, refs)
	if err != nil {
		return total, err
	}
	for _, b := range payloads {
		c, err := pipeline.DecodeCounts(b)
		if err != nil {
			return total, err
		}
		total = total.Add(c)
	}
	return total, nil
}

func (e *functionsEngine) fire(ctx context.Context, now event.Time, low fire.LowFunc) ([]rig.Result, event.Time, error) {
	if e.reopen != nil {
		store, err := e.reopen(e.world.Store)
		if err != nil {
			return nil, 0, err
		}
		e.world.Store = store
		e.world.Restart()
	}
	e.world.Clock, e.low = now, low
	r := e.world.Fire.Run(ctx, apply.Nudge{})[0]
	if r.Err != nil {
		return nil, 0, r.Err
	}
	all := e.world.Log.Records(e.pipe.SinkTopic)
	results, err := rig.ParseResults(all[e.read:])
	e.read = len(all)
	return results, r.Watermark, err
}

func (e *functionsEngine) sides() (late, dead []rig.Side, err error) {
	late, lateErr := rig.ParseSide(e.world.Log.Records(e.pipe.LateTopic))
	dead, deadErr := rig.ParseSide(e.world.Log.Records(e.pipe.DeadLetterTopic))
	return late, dead, errors.Join(lateErr, deadErr)
}

func (e *functionsEngine) finish() error {
	e.world.Fire.Close()
	plans, err := oracle.ParseLedger(e.world.Log.Records(spec.LedgerTopic))
	if problem := oracle.Unbalanced(plans); err == nil && problem != "" {
		err = errors.New("the ledger does not balance: " + problem)
	}
	err = errors.Join(err, e.world.Store.Close())
	if e.cleanup != nil {
		err = errors.Join(err, e.cleanup())
	}
	return err
}
