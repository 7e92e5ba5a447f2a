package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// most is how many partitions a line names.
const most = 20

// Failure is one partition that could not be brought up to date, in one pipeline.
type Failure struct {
	Pipeline string // empty where there is only one
	event.TopicPartition
	Err error
}

// Group is the failures of one cause. There is at least one.
type Group struct {
	Cause    string
	Failures []Failure
}

// Groups brings failures together by their causes, in the order in which each cause came first.
func Groups(failures []Failure) []Group {
	var groups []Group
	for _, f := range failures {
		cause := Cause(f.Err)
		i := slices.IndexFunc(groups, func(g Group) bool { return g.Cause == cause })
		if i < 0 {
			i, groups = len(groups), append(groups, Group{Cause: cause})
		}
		groups[i].Failures = append(groups[i].Failures, f)
	}
	return groups
}

// Attrs is what a line of the log says of a group: cause, pipelines, the first partitions by name and how many there are, how
// often was tried at most, and the text of the first error.
func (g Group) Attrs() []any {
	var pipelines, partitions []string
	tries := 1
	for _, f := range g.Failures {
		if f.Pipeline != "" && !slices.Contains(pipelines, f.Pipeline) {
			pipelines = append(pipelines, f.Pipeline)
		}
		if name := f.name(); name != "" && !slices.Contains(partitions, name) {
			partitions = append(partitions, name)
		}
		if t, ok := errors.AsType[*triedError](f.Err); ok {
			tries = max(tries, t.tries)
		}
	}
	count := len(partitions)
	return []any{
		"cause", g.Cause, "pipelines", pipelines, "partitions", partitions[:min(count, most)], "count", count, "tries", tries,
		"error", g.Failures[0].Err,
	}
}

// text names the partitions and the first error.
func (g Group) text() string {
	names := make([]string, 0, min(len(g.Failures), most))
	for _, f := range g.Failures[:min(len(g.Failures), most)] {
		names = append(names, f.name())
	}
	more := ""
	if n := len(g.Failures) - len(names); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("%s%s: %v", strings.Join(names, ", "), more, g.Failures[0].Err)
}

func (f Failure) name() string {
	if f.Topic == "" {
		return ""
	}
	return fmt.Sprintf("%s/%d", f.Topic, f.Partition)
}

// PartitionsError is the failures of several partitions. Its text has one part for each cause, however many they are.
type PartitionsError struct{ Failures []Failure }

// Error implements error.
func (e *PartitionsError) Error() string {
	groups := Groups(e.Failures)
	texts := make([]string, len(groups))
	for i, g := range groups {
		texts[i] = g.text()
	}
	return strings.Join(texts, "; ")
}

// Unwrap lets errors.Is see all of them.
func (e *PartitionsError) Unwrap() []error {
	errs := make([]error, len(e.Failures))
	for i, f := range e.Failures {
		errs[i] = f.Err
	}
	return errs
}

// causes returns the sentinels that say what somebody has to know. Of several in one error the first counts.
func causes() []error {
	return []error{
		ErrNoGenesis, ErrEnded, ErrTopicChanged, ErrLedgerGone, pipeline.ErrBlocked, pipeline.ErrPayload,
		statestore.ErrVersion, statestore.ErrFull, statestore.ErrReadOnly, statestore.ErrLoading, statestore.ErrFailover,
		statestore.ErrDisk, statestore.ErrDenied, statestore.ErrBusy, statestore.ErrUnreachable, statestore.ErrFormat,
		kafkaio.ErrOutOfRange, kafkaio.ErrUnknownTopic, context.DeadlineExceeded, context.Canceled,
	}
}

// Cause is what an error comes from, without what differs from partition to partition: the text of its sentinel, else that of
// the innermost error.
func Cause(err error) string {
	for _, cause := range causes() {
		if errors.Is(err, cause) {
			return cause.Error()
		}
	}
	for {
		var several interface{ Unwrap() []error }
		switch inner := errors.Unwrap(err); {
		case inner != nil:
			err = inner
		case errors.As(err, &several) && len(several.Unwrap()) > 0:
			err = several.Unwrap()[0]
		default:
			return err.Error()
		}
	}
}

// final reports whether trying again at once cannot help.
func final(err error) bool {
	for _, target := range []error{
		ErrNoGenesis, ErrEnded, ErrTopicChanged, ErrLedgerGone, pipeline.ErrBlocked, pipeline.ErrPayload, kafkaio.ErrOutOfRange,
		kafkaio.ErrUnknownTopic, statestore.ErrFormat, statestore.ErrVersion, statestore.ErrDenied, context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// triedError is an error that trying again did not mend.
type triedError struct {
	tries int
	err   error
}

func (e *triedError) Error() string { return fmt.Sprintf("gave up after %d tries: %v", e.tries, e.err) }
func (e *triedError) Unwrap() error { return e.err }
