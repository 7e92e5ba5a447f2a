package memlog

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// Groups implements kafkaio.Log.
func (l *Log) Groups(ctx context.Context, prefix string) ([]string, error) {
	if err := l.hook(OpGroups, "before"); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return l.groupsOf(prefix), l.hook(OpGroups, "after")
}

func (l *Log) groupsOf(prefix string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var names []string
	for name := range l.groups {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// OffsetsAt implements kafkaio.Log.
func (l *Log) OffsetsAt(ctx context.Context, partitions []event.TopicPartition, t event.Time) (map[event.TopicPartition]int64, error) {
	if err := l.hook(OpOffsetsAt, "before"); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	all, err := l.offsetsAt(partitions, t)
	if err != nil {
		return nil, err
	}
	return all, l.hook(OpOffsetsAt, "after")
}

func (l *Log) offsetsAt(partitions []event.TopicPartition, t event.Time) (map[event.TopicPartition]int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make(map[event.TopicPartition]int64, len(partitions))
	for _, tp := range partitions {
		part, err := l.partition(tp)
		if err != nil {
			return nil, fmt.Errorf("offsets at %s: %w", t, err)
		}
		all[tp] = part.end
		if i := slices.IndexFunc(part.entries, func(e entry) bool { return !e.marker && e.rec.Timestamp >= t }); i >= 0 {
			all[tp] = part.entries[i].rec.Offset
		}
	}
	return all, nil
}
