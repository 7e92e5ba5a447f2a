// Package preflight looks at what a cluster, a state store and the state that is there allow, and says of each finding what it
// means and what to do. It changes nothing that anybody sees: its one transaction is aborted.
package preflight

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/redisstore"
)

// Severity is how bad a finding is.
type Severity uint8

// The severities.
const (
	Note    Severity = iota // worth knowing
	Warning                 // it works, but not as well as it should, or not for ever
	Error                   // it cannot work, or would lose data
)

// String implements fmt.Stringer.
func (s Severity) String() string {
	switch s {
	case Note:
		return "note"
	case Warning:
		return "warning"
	case Error:
		return "error"
	}
	return fmt.Sprintf("Severity(%d)", uint8(s))
}

// MarshalText implements encoding.TextMarshaler.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Finding is one thing that was found.
type Finding struct {
	Severity Severity `json:"severity"`
	Check    string   `json:"check"`             // the name of what was looked at, for programs; see the Check constants
	Subject  string   `json:"subject,omitempty"` // the topic, group, node it is about
	What     string   `json:"what"`
	Do       string   `json:"do,omitempty"` // empty: nothing is to be done
}

// The names of what is looked at.
const (
	CheckTopics       = "topics"
	CheckTransactions = "transactions"
	CheckCleanup      = "cleanup.policy"
	CheckRetention    = "retention"
	CheckReplication  = "replication"
	CheckTimestamps   = "timestamps"
	CheckMessageSize  = "max.message.bytes"
	CheckGroupOffsets = "group offsets"
	CheckStore        = "state store"
	CheckTopicID      = "topic identity"
	CheckLog          = "log"
	CheckSettings     = "settings"
)

// Transactions is what the trial of a transaction came to.
type Transactions uint8

// The outcomes of a trial.
const (
	TransactionsUnknown Transactions = iota // not tried, or refused for a reason that says nothing of the cluster
	TransactionsWork
	TransactionsNotSupported // the cluster has none, for anybody
)

// Report is all that was found, worst first.
type Report struct {
	Findings     []Finding
	Missing      []string // topics that do not exist
	Transactions Transactions
}

// OK reports whether there is no error.
func (r Report) OK() bool {
	return !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Severity == Error })
}

// Cluster is what is asked of Kafka; kafkaio.Client is one.
type Cluster interface {
	Partitions(ctx context.Context, topics []string) ([]kafkaio.Partition, error)
	Offsets(ctx context.Context, partitions []event.TopicPartition) (map[event.TopicPartition]kafkaio.Offsets, error)
	Group(ctx context.Context, group string) (map[event.TopicPartition]kafkaio.Committed, error)
	TopicFacts(ctx context.Context, topics []string) (map[string]kafkaio.TopicFacts, error)
	BrokerFacts(ctx context.Context) (map[string]string, error)
	TryTransaction(ctx context.Context, t kafkaio.Trial) (version int16, err error)
}

// Slots is what is asked of the state store about the state that is there.
type Slots interface {
	Load(ctx context.Context, id statestore.Slot) (statestore.Meta, error)
	Slots(ctx context.Context, pipeline string) ([]statestore.Slot, error)
}

// Servers is what is asked of the servers of a state store; redisstore.Store is one.
type Servers interface {
	Inspect(ctx context.Context) ([]redisstore.Facts, error)
}

// Deps are what is looked at. Store may be nil: then nothing is said about it. One that is Servers too is asked about those.
type Deps struct {
	App       *spec.App
	Pipelines []*pipeline.Pipeline
	Kafka     Cluster
	Store     Slots
	ReadOnly  bool // nothing is written, so no transaction is tried
}

// check is one run over the dependencies. What it finds is added from several goroutines.
type check struct {
	Deps
	mu     sync.Mutex
	report Report
}

func (c *check) add(s Severity, name, subject, what, do string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Findings = append(c.report.Findings, Finding{Severity: s, Check: name, Subject: subject, What: what, Do: do})
}

// Check looks at everything, side by side. Its error says that Kafka or ctx ended the look before anything could be said of the
// topics; what was found until then is in the report all the same. A part that cannot be looked at for other reasons is a
// finding of its own.
func Check(ctx context.Context, d Deps) (Report, error) {
	c := &check{Deps: d}
	var wg sync.WaitGroup
	wg.Go(func() { c.store(ctx) })
	err := c.topics(ctx)
	if err == nil {
		if !c.ReadOnly {
			wg.Go(func() { c.transaction(ctx) })
		}
		wg.Go(func() { c.brokers(ctx) })
		wg.Go(func() { c.positions(ctx) })
	}
	wg.Wait()
	if err == nil {
		err = ctx.Err()
	}
	c.report.sort()
	if err != nil {
		return c.report, fmt.Errorf("preflight: %w", err)
	}
	return c.report, nil
}

func (r *Report) sort() {
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(b.Severity, a.Severity), cmp.Compare(a.Check, b.Check), cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.What, b.What))
	})
}

// Print writes the findings for people: what, and below it what to do.
func (r Report) Print(w io.Writer) error {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%s: %s", f.Severity, f.Check)
		if f.Subject != "" {
			fmt.Fprintf(&b, ", %s", f.Subject)
		}
		fmt.Fprintf(&b, ": %s\n", f.What)
		if f.Do != "" {
			fmt.Fprintf(&b, "  do: %s\n", f.Do)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// startWithin bounds the look at the start of a function: what is slower than that is not worth a tick.
const startWithin = 5 * time.Second

// Start looks once when a function starts, logs each finding once, and returns the publisher to work with: in transactions, but
// where the cluster does not support them at all, without; that may also be found out later. Nothing that is found keeps the function from
// working: its own halts decide.
func Start(ctx context.Context, d Deps, c *kafkaio.Client, logger *slog.Logger) kafkaio.Publisher {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	d.Kafka = c
	report, err := Check(ctx, d)
	for _, f := range report.Findings {
		level := slog.LevelInfo
		switch f.Severity {
		case Note:
		case Warning:
			level = slog.LevelWarn
		case Error:
			level = slog.LevelError
		}
		logger.Log(ctx, level, "preflight", "check", f.Check, "subject", f.Subject, "found", f.What, "do", f.Do)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		logger.WarnContext(ctx, "preflight did not come to its end; `tidemark validate --brokers` looks again", "error", err)
	}
	out := &publisher{client: c, logger: logger}
	out.atOnce.Store(report.Transactions == TransactionsNotSupported)
	return out
}
