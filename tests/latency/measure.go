package main

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// entry is a record of the source topic.
type entry struct {
	offset   int64
	appended time.Time  // by the broker
	at       event.Time // event time
}

// readLog reads the source topic once all is over, so that it costs nothing while it is measured.
func (w *world) readLog(ctx context.Context) ([][]entry, error) {
	out := make([][]entry, len(w.parts))
	tps := make([]event.TopicPartition, len(w.parts))
	for i, p := range w.parts {
		tps[i] = p.TopicPartition
	}
	offsets, err := w.log.Offsets(ctx, tps)
	if err != nil {
		return nil, err
	}
	for i, tp := range tps {
		err := w.log.Read(ctx, tp, 0, offsets[tp].End, func(records []event.Record, _ int64) error {
			for _, r := range records {
				digits, _, _ := bytes.Cut(bytes.TrimPrefix(r.Value, []byte(`{"t":`)), []byte(","))
				ms, err := strconv.ParseInt(string(digits), 10, 64)
				if err != nil {
					return fmt.Errorf("%s/%d offset %d: %w", tp.Topic, tp.Partition, r.Offset, err)
				}
				out[i] = append(out[i], entry{r.Offset, r.Timestamp.Go(), event.Time(ms)})
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// folded returns how long each measured record took until it was folded.
func (w *world) folded(log [][]entry) []time.Duration {
	var out []time.Duration
	for i, entries := range log {
		looks := w.applied[i]
		for _, e := range entries {
			for len(looks) > 0 && looks[0].offset <= e.offset {
				looks = looks[1:]
			}
			if len(looks) == 0 {
				break
			}
			if at := e.at.Go(); !at.Before(w.from) && at.Before(w.through) {
				out = append(out, max(looks[0].at.Sub(e.appended), 0))
			}
		}
	}
	return out
}

// closed returns how long the results took of windows that ended within the measured time, and by how much the counts of all
// windows differ from what was produced.
func (w *world) closed(log [][]entry) (out []time.Duration, lost int64) {
	passed := map[event.Time]time.Time{}
	lost = w.produced
	for _, r := range w.results {
		lost -= r.count
		if end := r.end.Go(); end.Before(w.from) || end.Add(bound).After(w.through) {
			continue // the last windows close because the partitions are idle
		}
		at, ok := passed[r.end]
		if !ok {
			at = passes(log, r.end)
			passed[r.end] = at
		}
		if !at.IsZero() {
			out = append(out, r.at.Sub(at))
		}
	}
	return out, lost
}

// passes returns when the last partition got a record that takes its watermark to the end of a window.
func passes(log [][]entry, end event.Time) time.Time {
	var last time.Time
	for _, entries := range log {
		found := false
		for _, e := range entries {
			if e.at >= end.Add(event.SpanOf(bound)) {
				if found = true; e.appended.After(last) {
					last = e.appended
				}
				break
			}
		}
		if !found {
			return time.Time{}
		}
	}
	return last
}
