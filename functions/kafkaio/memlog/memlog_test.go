package memlog_test

import (
	"context"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/logtest"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
)

func TestLog(t *testing.T) {
	for name, o := range map[string]memlog.Options{
		"as a broker":     {},
		"without markers": {NoMarkers: true, Scribble: true},
		"single use":      {SingleUse: true, Scribble: true},
	} {
		t.Run(name, func(t *testing.T) {
			logtest.Run(t, func(*testing.T) logtest.Env { return env(o) })
		})
	}
}

func env(o memlog.Options) logtest.Env {
	l := memlog.New(o)
	return logtest.Env{
		Log:              l,
		Publisher:        l,
		CreateTopic:      func(_ context.Context, name string, n int32) error { return l.CreateTopic(name, n) },
		DeleteTopic:      func(_ context.Context, name string) error { return l.DeleteTopic(name) },
		Produce:          l.Produce,
		DeleteRecords:    func(_ context.Context, tp event.TopicPartition, before int64) error { return l.Truncate(tp, before) },
		Markers:          !o.NoMarkers,
		FirstCommitWaits: true,
	}
}

func TestLogWithoutTransactions(t *testing.T) {
	for name, o := range map[string]memlog.Options{
		"reusable":   {NoTransactions: true, NoMarkers: true},
		"single use": {NoTransactions: true, NoMarkers: true, SingleUse: true, Scribble: true},
	} {
		t.Run(name, func(t *testing.T) {
			logtest.RunAtOnce(t, func(*testing.T) logtest.Env { return env(o) })
		})
	}
}
