package trigger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/llm-auto-optimizer/tidemark/functions/esm"
)

// ErrOptions is returned for options that Lambda would not take either.
var ErrOptions = errors.New("trigger: options")

// Position is where a group begins that has no offset yet. A group that has some goes on from there, whatever is said here.
type Position uint8

// The starting positions.
const (
	TrimHorizon Position = iota // with the oldest record that is kept
	Latest                      // with what is published after Hooks.Begun
	AtTimestamp                 // with the first record of Options.StartingTime or later
)

// String returns the word that templates have.
func (p Position) String() string {
	switch p {
	case TrimHorizon:
		return "TRIM_HORIZON"
	case Latest:
		return "LATEST"
	case AtTimestamp:
		return "AT_TIMESTAMP"
	}
	return fmt.Sprintf("Position(%d)", uint8(p))
}

// What is taken where Options say nothing, and the bounds that Lambda has.
const (
	// DefaultWindow is the batching window of a mapping that says nothing.
	DefaultWindow = 500 * time.Millisecond
	// DefaultConcurrency is how many invocations a poller has at once.
	DefaultConcurrency = 5

	defaultTimeout    = time.Minute
	defaultRetryPause = 100 * time.Millisecond
	mostRetryPause    = 5 * time.Second

	mostBatchSize   = 10_000
	mostWindow      = 300 * time.Second
	mostMinPollers  = 200
	mostMaxPollers  = 2000
	mostGroupLetter = 200
	mostTries       = 10_001 // Lambda has 10,000 retries
	// triesToDestination is how often a batch is tried where tries are unlimited and there is a topic for failures: ten retries.
	triesToDestination = 11

	leastAge = time.Minute
	mostAge  = 604_800 * time.Second
)

// Options of a trigger, which is one event source mapping. The zero value of a field is the default that is named, unless it says
// that it is required.
type Options struct {
	// Brokers are the host:port addresses that are connected to. Required.
	Brokers []string
	// Group is the consumer group, at most 200 letters. Required.
	Group string
	// Topics are what is read, at least one. A mapping of Lambda has one; a run in one process may have more.
	Topics []string

	// BatchSize is the most records of an invocation, 1 to 10,000. Required.
	BatchSize int
	// Window is how long a batch waits for more records, from the arrival of its first, up to 300 s. 0: whatever there is goes at
	// once. Lambda's default is DefaultWindow.
	Window time.Duration
	// Start is where the group begins, if it has no offset of a partition.
	Start Position
	// StartingTime is for AtTimestamp: what has this Kafka timestamp or a later one is delivered.
	StartingTime time.Time

	// MinPollers is the number of members of the group, 1 to 200, at most one for each partition. 0: 1.
	MinPollers int
	// MaxPollers is checked as Lambda does (MinPollers to 2,000; 0: 200), and has no other effect: pollers are not added under load,
	// since one reads more than this machine folds.
	MaxPollers int
	// Concurrency is how many invocations a poller has at once; a partition is in one of them at most. 0: DefaultConcurrency.
	Concurrency int
	// Timeout ends the context of an invocation. 0: one minute. An invocation that goes on after that is Invoke's business: the batch
	// is retried as Lambda does, which does not wait either.
	Timeout time.Duration

	// MaxTries is how often records are handed over before they are given up: MaximumRetryAttempts and the first time, 1 to 10,001.
	// 0: for ever, or 11 times where there is OnFailure.
	MaxTries int
	// MaxAge is how old a record may be, by its Kafka timestamp, when it is handed over, one minute to a week. 0 and below: any.
	MaxAge time.Duration
	// Bisect splits a batch of several records in two after an error, where there is another try at all. Halves are tried on their own;
	// a split costs none of MaxTries.
	Bisect bool
	// PartialFailures is FunctionResponseTypes: [ReportBatchItemFailures]. Without it what an answer says is ignored.
	PartialFailures bool
	// OnFailure is the topic for records that are given up, of the same cluster and not a source. Empty: they are dropped.
	OnFailure string
	// Filters are event patterns, as in FilterCriteria. A record is delivered if one of them matches, or if there is none.
	Filters []string
	// RetryPause is the pause before the first retry; it doubles up to 5 s. 0: 100 ms. Lambda does not say what its own is.
	RetryPause time.Duration

	// Source is esm.SourceMSK or esm.SourceSelfManaged, as events and failures say. Empty: the latter.
	Source string
	// SourceARN is eventSourceArn, of esm.SourceMSK alone. Empty there: that of a cluster which does not exist.
	SourceARN string
	// BootstrapServers is what events say, host:port. None: Brokers.
	BootstrapServers []string
	// FunctionARN is what records in the topic for failures say. Empty: that of a function which does not exist.
	FunctionARN string

	// Invoke hands an event to the function and returns its answer. Required. It is called from several goroutines at once. The
	// payload is Invoke's to keep. An error is the function's failure, and the batch is retried. ctx ends after Timeout, and shortly
	// after Run is told to end.
	Invoke func(ctx context.Context, payload []byte) ([]byte, error)
	// Hooks are told what happens.
	Hooks Hooks
	// Logger gets what somebody should know: failed invocations, dropped records, trouble with brokers. Required.
	Logger *slog.Logger
}

// localARN stands in for the ARN of an MSK cluster where there is none.
const (
	localARN      = "arn:aws:kafka:us-east-1:123456789012:cluster/local/00000000-0000-0000-0000-000000000000-1"
	localFunction = "arn:aws:lambda:us-east-1:123456789012:function:local"
)

// complete returns the options with defaults, or all that is wrong with them.
func (o Options) complete() (Options, error) {
	if o.MinPollers == 0 {
		o.MinPollers = 1
	}
	if o.MaxPollers == 0 {
		o.MaxPollers = max(mostMinPollers, o.MinPollers)
	}
	if o.Concurrency == 0 {
		o.Concurrency = DefaultConcurrency
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.RetryPause == 0 {
		o.RetryPause = defaultRetryPause
	}
	if o.Source == "" {
		o.Source = esm.SourceSelfManaged
	}
	if o.Source == esm.SourceMSK && o.SourceARN == "" {
		o.SourceARN = localARN
	}
	if len(o.BootstrapServers) == 0 {
		o.BootstrapServers = o.Brokers
	}
	if o.FunctionARN == "" {
		o.FunctionARN = localFunction
	}
	err := o.check()
	return o, err
}

// check returns all that is wrong.
func (o *Options) check() error {
	var errs []error
	want := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrOptions}, args...)...))
		}
	}
	want(len(o.Brokers) > 0, "no brokers")
	want(o.Group != "" && len(o.Group) <= mostGroupLetter, "group %q: want 1 to %d letters", o.Group, mostGroupLetter)
	want(len(o.Topics) > 0, "no topics")
	want(o.BatchSize >= 1 && o.BatchSize <= mostBatchSize, "batch size %d: want 1 to %d", o.BatchSize, mostBatchSize)
	want(o.Window >= 0 && o.Window <= mostWindow, "batching window %s: want 0 to %s", o.Window, mostWindow)
	want(o.Start <= AtTimestamp, "starting position %s", o.Start)
	want((o.Start == AtTimestamp) == !o.StartingTime.IsZero(), "starting time %s with %s: it belongs to AT_TIMESTAMP", o.StartingTime, o.Start)
	want(o.MinPollers >= 1 && o.MinPollers <= mostMinPollers, "minimum pollers %d: want 1 to %d", o.MinPollers, mostMinPollers)
	want(o.MaxPollers >= o.MinPollers && o.MaxPollers <= mostMaxPollers, "maximum pollers %d: want %d to %d", o.MaxPollers, o.MinPollers, mostMaxPollers)
	want(o.Concurrency >= 1, "concurrency %d", o.Concurrency)
	want(o.Timeout > 0 && o.RetryPause > 0, "timeout %s, pause before a retry %s: want more than 0", o.Timeout, o.RetryPause)
	want(o.MaxTries >= 0 && o.MaxTries <= mostTries, "tries %d: want 0 to %d", o.MaxTries, mostTries)
	want(o.MaxAge <= 0 || o.MaxAge >= leastAge && o.MaxAge <= mostAge, "maximum age %s: want %s to %s, or none", o.MaxAge, leastAge, mostAge)
	want(!slices.Contains(o.Topics, o.OnFailure), "topic %s for failures is a source: what fails would come again for ever", o.OnFailure)
	want(o.Source == esm.SourceMSK || o.Source == esm.SourceSelfManaged, "source %q: want %s or %s", o.Source, esm.SourceMSK, esm.SourceSelfManaged)
	want(o.Source == esm.SourceMSK || o.SourceARN == "", "ARN %s of a self-managed source", o.SourceARN)
	want(o.Invoke != nil && o.Logger != nil, "no Invoke or no Logger")
	return errors.Join(errs...)
}

// tries is how often records are handed over; 0: for ever.
func (o *Options) tries() int {
	if o.MaxTries == 0 && o.OnFailure != "" {
		return triesToDestination
	}
	return o.MaxTries
}
