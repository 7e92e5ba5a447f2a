package trigger

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/llm-auto-optimizer/tidemark/functions/esm"
)

const (
	// failureBytes is the largest record that is offered to the topic for failures; what brokers refuse goes without its payload.
	failureBytes = 2 * esm.MaxPayload
	// failureWithin bounds one try to publish there, failureAgain is the pause behind it.
	failureWithin = 10 * time.Second
	failureAgain  = time.Second
)

// giveUp lets records go, of those of a batch, into the topic for failures if there is one, and returns the others. While the topic
// takes none they stay, and their partitions with them; it is not ok if Run ended meanwhile.
func (l *poller) giveUp(b *batch, of, records []part, why Reason, cause error) (rest []part, ok bool) {
	if l.failures != nil {
		for !l.failures.publish(l.ctx, b, records, why, cause) {
			select {
			case <-l.ctx.Done():
				return nil, false
			case <-time.After(failureAgain):
			}
		}
	}
	drop := map[*partition]map[int64]bool{}
	for _, p := range records {
		if drop[p.partition] == nil {
			drop[p.partition] = map[int64]bool{}
		}
		for _, r := range p.records {
			drop[p.partition][r.Offset] = true
		}
		l.tellDropped(p, why, cause)
	}
	for _, p := range of {
		p.records = slices.DeleteFunc(slices.Clone(p.records), func(r record) bool { return drop[p.partition][r.Offset] })
		if len(p.records) > 0 {
			rest = append(rest, p)
		}
	}
	return rest, true
}

func (l *poller) tellDropped(p part, why Reason, cause error) {
	s := spanOf(p.TopicPartition, p.records)
	l.Logger.Warn("trigger: records are given up", "topic", s.Topic, "partition", s.Partition, "first", s.First, "last", s.Last, "records", s.Records,
		"reason", why.String(), "to", l.OnFailure, "error", cause)
	if l.Hooks.Dropped != nil {
		l.Hooks.Dropped(Dropped{Span: s, Reason: why, Topic: l.OnFailure, At: time.Now()})
	}
}

// failures publishes to the topic for failures.
type failures struct {
	*Options
	client *kgo.Client
}

func newFailures(o *Options) (*failures, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(o.Brokers...), kgo.ClientID(clientID), kgo.DefaultProduceTopic(o.OnFailure),
		kgo.ProducerBatchMaxBytes(failureBytes))
	if err != nil {
		return nil, err
	}
	return &failures{Options: o, client: cl}, nil
}

func (f *failures) close() { f.client.Close() }

// publish writes one record for each that is given up, and reports whether all are there. It may have written some if they are not.
func (f *failures) publish(ctx context.Context, b *batch, records []part, why Reason, cause error) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), failureWithin)
	defer cancel()
	for _, p := range records {
		for _, r := range p.records {
			err := f.one(ctx, b, p, r, why, cause, why != TooLarge)
			if errors.Is(err, kerr.MessageTooLarge) {
				err = f.one(ctx, b, p, r, why, cause, false)
			}
			if err != nil {
				f.Logger.Warn("trigger: the topic for failures takes nothing; its partition waits", "topic", f.OnFailure, "from", p.Topic, "partition", p.Partition, "offset", r.Offset, "error", err)
				return false
			}
		}
	}
	return true
}

func (f *failures) one(ctx context.Context, b *batch, p part, r record, why Reason, cause error, payload bool) error {
	value, err := f.describe(b, p, r, why, cause, payload)
	if err != nil {
		return err
	}
	return f.client.ProduceSync(ctx, &kgo.Record{Key: r.Key, Value: value}).FirstErr()
}

// failure is a record of the topic for failures.
type failure struct {
	RequestContext  requestContext   `json:"requestContext"`
	ResponseContext *responseContext `json:"responseContext"` // null: there was no invocation
	Version         string           `json:"version"`
	Timestamp       string           `json:"timestamp"`
	KafkaBatchInfo  kafkaBatchInfo   `json:"KafkaBatchInfo"`
	Payload         json.RawMessage  `json:"payload,omitempty"`
}

type requestContext struct {
	RequestID              string `json:"requestId"`
	FunctionARN            string `json:"functionArn"`
	Condition              string `json:"condition"`
	ApproximateInvokeCount int    `json:"approximateInvokeCount"`
}

type responseContext struct {
	StatusCode      int    `json:"statusCode"`
	ExecutedVersion string `json:"executedVersion"`
	FunctionError   string `json:"functionError,omitempty"`
}

type kafkaBatchInfo struct {
	BatchSize        int        `json:"batchSize"`
	EventSourceARN   string     `json:"eventSourceArn,omitempty"`
	BootstrapServers string     `json:"bootstrapServers"`
	PayloadSize      int        `json:"payloadSize"`
	RecordInfo       recordInfo `json:"recordInfo"`
}

type recordInfo struct {
	Offset    string `json:"offset"`
	Timestamp string `json:"timestamp"`
}

// describe writes a record of the topic for failures: what happened, and the event that the record alone would have been.
func (f *failures) describe(b *batch, p part, r record, why Reason, cause error, payload bool) ([]byte, error) {
	e := encoder{}
	e.Source, e.SourceARN, e.BootstrapServers = f.Source, f.SourceARN, strings.Join(f.BootstrapServers, ",")
	e.Reset()
	info := e.read(r.Record)
	e.Add(p.TopicPartition, &e.record, info)
	out := failure{
		RequestContext: requestContext{RequestID: requestID(), FunctionARN: f.FunctionARN + ":$LATEST", Condition: why.String(), ApproximateInvokeCount: b.invoked},
		Version:        "1.0", Timestamp: instant(time.Now()),
		KafkaBatchInfo: kafkaBatchInfo{
			BatchSize: 1, EventSourceARN: f.SourceARN, BootstrapServers: e.BootstrapServers, PayloadSize: e.Len(),
			RecordInfo: recordInfo{Offset: strconv.FormatInt(r.Offset, 10), Timestamp: instant(r.Timestamp)},
		},
	}
	if b.invoked > 0 {
		out.ResponseContext = &responseContext{StatusCode: 200, ExecutedVersion: "$LATEST"}
		if cause != nil && !errors.Is(cause, ErrAnswer) {
			out.ResponseContext.FunctionError = "Unhandled"
		}
	}
	if payload {
		out.Payload = e.AppendTo(nil)
	}
	var buf bytes.Buffer
	w := json.NewEncoder(&buf)
	w.SetEscapeHTML(false)
	if err := w.Encode(out); err != nil {
		return nil, fmt.Errorf("record for %s: %w", f.OnFailure, err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// instant is how failures write a time.
func instant(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// requestID is a random UUID, as those of invocations are.
func requestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
