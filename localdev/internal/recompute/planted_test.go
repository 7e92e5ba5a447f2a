package recompute_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/window"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/recompute"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

// forged is a log whose records of one topic were tampered with.
type forged struct {
	*memlog.Log
	topic string
	forge func(r *event.Record) (keep bool)
}

// Read implements kafkaio.Log.
func (f forged) Read(ctx context.Context, p event.TopicPartition, from, to int64, fn func([]event.Record, int64) error) error {
	return f.Log.Read(ctx, p, from, to, func(records []event.Record, next int64) error {
		if p.Topic != f.topic {
			return fn(records, next)
		}
		var kept []event.Record
		for _, r := range records {
			if c := kafkaio.CloneRecord(r); f.forge(&c) {
				kept = append(kept, c)
			}
		}
		return fn(kept, next)
	})
}

// once calls forge for the first record that it matches, and leaves all others alone.
func once(match func(*event.Record) bool, forge func(*event.Record) bool) func(*event.Record) bool {
	var found *event.Record
	return func(r *event.Record) bool {
		if found == nil && match(r) {
			c := kafkaio.CloneRecord(*r)
			found = &c
		}
		is := found != nil && r.Offset == found.Offset && bytes.Equal(r.Value, found.Value) // other partitions have the offset too
		return !is || forge(r)
	}
}

func anyRecord(*event.Record) bool { return true }

// many matches results of at least five records: not all of them can have come so late that a plan which died may have refused them.
func many(r *event.Record) bool { return onTime(r) && fiveOrMore.Match(r.Value) }

var fiveOrMore = regexp.MustCompile(`"w":\{"count":([5-9]|\d\d)`)

// onTime matches results that are the only one of their window and key: windows without lateness.
func onTime(r *event.Record) bool { return bytes.Contains(r.Value, []byte(`"name":"strict"`)) }

func drop(*event.Record) bool { return false }

func setHeader(r *event.Record, key, value string) {
	for i := range r.Headers {
		if r.Headers[i].Key == key {
			r.Headers[i].Value = []byte(value)
		}
	}
}

// startOf returns when the window of a result begins.
func startOf(t *testing.T, r *event.Record) event.Time {
	t.Helper()
	results, err := rig.ParseResults([]kafkaio.PublishedRecord{{Record: *r}})
	if err != nil {
		t.Fatal(err)
	}
	return results[0].Window.StartMS
}

// settled is a world that has gone through something, with everything closed.
func settled(t *testing.T) *world {
	t.Helper()
	app := load(t, twoValues)
	app.Pipelines[0].Windows = []window.Definition{
		{Name: "strict", Kind: window.KindTumbling, Size: 20},
		{Name: "wide", Kind: window.KindSliding, Size: 30, Slide: 10, Lateness: 10},
		{Name: "visits", Kind: window.KindSession, Gap: 6, Lateness: 10},
	}
	// What is forged is chosen among what has gone through the world: with nearly every seed there is something to choose, not with all.
	w := newWorld(t, rand.New(rand.NewPCG(seed.Or(t, 1), 0)), app, 2, memlog.Options{})
	w.live(60)
	w.settle()
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := w.clean(w.options(), "before anything is forged")
	if p.Late == 0 || p.DeadLetters == 0 || p.Groups < 50 {
		t.Fatalf("%+v: too little to forge", p)
	}
	return w
}

func TestWhatIsForgedIsFoundAndNamed(t *testing.T) {
	w := settled(t)
	sum := regexp.MustCompile(`"v":\{"count":(\d+),"sum":[^,]*`)
	count := regexp.MustCompile(`"w":\{"count":(\d+)`)
	for _, c := range []struct {
		name, topic string
		match       func(*event.Record) bool
		forge       func(*event.Record) bool
		what        string
		says        string // in the difference
	}{
		{"a sum", "results", onTime, func(r *event.Record) bool {
			r.Value = sum.ReplaceAll(r.Value, []byte(`"v":{"count":$1,"sum":1e12`))
			return true
		}, recompute.Different, "{Name:v.sum Got:1e12 Want:"},
		{"a count", "results", onTime, func(r *event.Record) bool {
			r.Value = count.ReplaceAll(r.Value, []byte(`"w":{"count":9$1`))
			return true
		}, recompute.Different, "{Name:w.count Got:9"},
		{"a percentile in its last digits", "results", func(r *event.Record) bool { return onTime(r) && !bytes.Contains(r.Value, []byte(`"p50":null`)) }, func(r *event.Record) bool {
			r.Value = bytes.Replace(r.Value, []byte(`"p50":`), []byte(`"p50":1`), 1)
			r.Value = bytes.Replace(r.Value, []byte(`"p50":1-`), []byte(`"p50":-1`), 1)
			return true
		}, recompute.Different, "{Name:v.p50 "},
		{"a result that is missing", "results", many, drop, recompute.Missing, "Window:strict Start:2025-01-01T12:3"},
		{"a result of another window", "results", many, func(r *event.Record) bool {
			r.Value = regexp.MustCompile(`_ms":17357348(\d)`).ReplaceAll(r.Value, []byte(`_ms":18357348$1`))
			return true
		}, recompute.Missing, "Window:strict"},
		{"a key that is not the record's", "results", onTime, func(r *event.Record) bool { r.Key = []byte("k=other"); return true }, recompute.Unreadable, "its key is not the record's"},
		{"a late record that is missing", "results-late", anyRecord, drop, recompute.LateMissing, "Records:[{Topic:events"},
		{"a late record of another fence", "results-late", anyRecord, func(r *event.Record) bool { setHeader(r, "tidemark-watermark", "1"); return true }, recompute.Fence, "tidemark-watermark"},
		{"a late record of another offset", "results-late", anyRecord, func(r *event.Record) bool {
			setHeader(r, "tidemark-offset", "0")
			setHeader(r, "tidemark-plan", "1")
			return true
		}, recompute.LateMissing, ""},
		{"a dead letter that is missing", "processor-dead-letter", anyRecord, drop, recompute.DeadMissing, "{Name:reason Got: Want:"},
		{"a dead letter for another reason", "processor-dead-letter", anyRecord, func(r *event.Record) bool { setHeader(r, "tidemark-reason", "key_missing"); return true }, recompute.Reason, "{Name:reason Got:key_missing Want:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := w.options()
			o.Log = forged{w.Log, c.topic, once(c.match, c.forge)}
			p := w.verify(o)
			found := slices.ContainsFunc(p.Differences, func(d recompute.Difference) bool {
				return d.What == c.what && strings.Contains(fmt.Sprintf("%+v", d), c.says) && (d.At != nil || len(d.Records) > 0)
			})
			if !found || len(p.Differences) > 12 {
				t.Errorf("%d differences, want %s that says %q: %+v", len(p.Differences), c.what, c.says, p.Differences)
			}
		})
	}
}

// A result, late record or dead letter that was published twice; and one that nothing accounts for.
func TestWhatIsTooMuchIsFoundAndNamed(t *testing.T) {
	w := settled(t)
	again := func(topic string, match func(*event.Record) bool, change func(*event.Record)) {
		t.Helper()
		for _, s := range w.Log.Records(topic) {
			r := kafkaio.CloneRecord(s.Record)
			if !match(&r) {
				continue
			}
			if change != nil {
				change(&r)
			}
			if err := w.Log.Produce(t.Context(), []kafkaio.Message{{Topic: topic, Partition: s.Partition, Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: r.Timestamp}}); err != nil {
				t.Fatal(err)
			}
			return
		}
		t.Fatalf("nothing in %s", topic)
	}
	again("results", onTime, nil)
	again("results-late", anyRecord, nil)
	again("processor-dead-letter", anyRecord, nil)
	again("results", onTime, func(r *event.Record) {
		r.Key = []byte("k=nobody")
		r.Value = regexp.MustCompile(`"key":"[^"]*"`).ReplaceAll(r.Value, []byte(`"key":"k=nobody"`))
	})
	p := w.verify(w.options())
	what := map[string]int{}
	for _, d := range p.Differences {
		what[d.What]++
		if d.At == nil {
			t.Errorf("%+v does not say where it is", d)
		}
	}
	if what[recompute.Twice] != 3 || what[recompute.Superfluous] != 1 || len(p.Differences) != 4 {
		t.Errorf("%+v", p.Differences)
	}
	o := w.options()
	o.Most = 1
	if p := w.verify(o); len(p.Differences) != 1 || p.More != 3 {
		t.Errorf("with at most 1: %+v", p)
	}
}

func parse(t *testing.T, text string) event.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return event.FromGo(at)
}

func TestARangeReadsLessAndComesToTheSame(t *testing.T) {
	w := settled(t)
	all := w.clean(w.options(), "all")
	o := w.options()
	o.From, o.To = w.now-200, w.now-80
	some := w.clean(o, "a range")
	if some.Groups == 0 || some.Groups >= all.Groups || some.Records == 0 || some.Records >= all.Records {
		t.Errorf("all: %+v\nrange: %+v", all, some)
	}
	o.Log = forged{w.Log, "results", func(r *event.Record) bool { return bytes.Contains(r.Value, []byte(`"strict"`)) }}
	p := w.verify(o)
	for _, d := range p.Differences {
		if start, end := parse(t, d.Start), parse(t, d.End); d.What != recompute.Missing || start < o.From || end > o.To {
			t.Errorf("%+v is not in [%s, %s]", d, o.From, o.To)
		}
	}
	if len(p.Differences) == 0 {
		t.Error("results that are missing in the range are not found")
	}
}

// What retention has removed cannot be verified; the rest can, and what was left out is said.
func TestWhatTheTopicsNoLongerHaveIsLeftOut(t *testing.T) {
	for _, topic := range []string{"events", "results", spec.LedgerTopic} {
		t.Run(topic, func(t *testing.T) {
			w := settled(t)
			all := w.clean(w.options(), "all")
			offsets := map[int32][]int64{}
			for _, r := range w.Log.Records(topic) {
				offsets[r.Partition] = append(offsets[r.Partition], r.Offset)
			}
			for p, all := range offsets {
				if err := w.Log.Truncate(event.TopicPartition{Topic: topic, Partition: p}, all[len(all)/3]); err != nil {
					t.Fatal(err)
				}
			}
			some := w.clean(w.options(), "what is left")
			if len(some.LeftOut) == 0 || some.Groups == 0 || topic != "results" && some.Groups >= all.Groups {
				t.Errorf("all: %+v\nleft: %+v", all, some)
			}
			o := w.options()
			o.Log = forged{w.Log, "results", once(func(r *event.Record) bool {
				return many(r) && startOf(t, r) > w.now-80 // what is left out began well before that
			}, drop)}
			if p := w.verify(o); len(p.Differences) != 1 || p.Differences[0].What != recompute.Missing {
				t.Errorf("%+v", p.Differences)
			}
		})
	}
}

// A changed query takes over: windows that ended before are the old one's, late panes and later windows the new one's.
func TestAPipelineThatTookOver(t *testing.T) {
	seed, n := seed.Of(t), seed.Rounds(t, 25)
	for round := range n {
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		app := load(t, twoValues)
		app.Pipelines[0].Watermark.MaxFutureSkew = 100
		app.Pipelines[0].Windows = randomDefinitions(r)
		w := newWorld(t, r, app, 2, memlog.Options{})
		w.live(25)
		changed := load(t, twoValues)
		changed.Pipelines[0].Watermark.MaxFutureSkew = 100
		changed.Pipelines[0].Windows = randomDefinitions(r)
		old := w.succeed(changed)
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		p := w.clean(w.options(), "the new one")
		w.World = old
		q := w.clean(w.options(), "the old one")
		if t.Failed() {
			t.Fatalf("round %d: %+v, then %+v", round, app.Pipelines[0].Windows, changed.Pipelines[0].Windows)
		}
		if app.Pipelines[0].Fingerprint() != changed.Pipelines[0].Fingerprint() && (len(p.LeftOut) == 0 || p.Groups == 0 || len(q.LeftOut) == 0) {
			t.Fatalf("round %d: %+v\n%+v", round, p, q)
		}
	}
}

func TestWithoutTransactionsWhatDiedAttemptsLeftIsNoDifference(t *testing.T) {
	seed, n := seed.Of(t), seed.Rounds(t, 20)
	for round := range n {
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		app := load(t, twoValues)
		app.Pipelines[0].Windows = randomDefinitions(r)
		w := newWorld(t, r, app, 2, memlog.Options{NoTransactions: true})
		w.live(40)
		w.settle()
		p := w.clean(w.options(), "without transactions")
		if t.Failed() || p.Delivery != "at least once" || p.Groups == 0 {
			t.Fatalf("round %d: %+v, %+v", round, app.Pipelines[0].Windows, p)
		}
	}
}

func TestWithoutAPlanThereIsNothingToVerify(t *testing.T) {
	app := load(t, twoValues)
	w := newWorld(t, rand.New(rand.NewPCG(1, 1)), app, 1, memlog.Options{})
	o := w.options()
	if p := w.clean(o, "after the genesis"); p.Groups != 0 || len(p.Sources) != 1 {
		t.Errorf("%+v", p)
	}
	other := load(t, strings.Replace(twoValues, "name: p", "name: q", 1))
	n, err := w.Deploy(other)
	if err != nil {
		t.Fatal(err)
	}
	o.App, o.Pipelines = n.App, n.Pipelines
	r, err := recompute.Run(t.Context(), o)
	if err != nil || !r.OK || !r.Partial || len(r.Pipelines[0].LeftOut) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

// Two pipelines of an app that send dead letters to one topic do not take each other's for too much, and miss their own.
func TestPipelinesMayShareADeadLetterTopic(t *testing.T) {
	app := load(t, twoValues+`
  - name: q
    timestamp: {field: t, unit: ms}
    key: [other]
    values: {w: w}
    windows: [{name: w, type: tumbling, size: 20ms}]
    aggregates: {w: [count]}
    sink: {topic: others}
`)
	w := newWorld(t, seed.Rand(t), app, 2, memlog.Options{})
	w.live(30)
	w.settle()
	for i := range w.Pipelines {
		o := w.options()
		o.Pipelines = w.Pipelines[i : i+1]
		p := w.clean(o, o.Pipelines[0].Name)
		if p.DeadLetters == 0 {
			t.Errorf("%+v", p)
		}
		o.Log = forged{w.Log, "processor-dead-letter", drop}
		if p := w.verify(o); p.Pipeline == "" || len(p.Differences) == 0 || p.Differences[0].What != recompute.DeadMissing {
			t.Errorf("%+v", p.Differences)
		}
	}
}

func TestAWindowThatDoesNotFitIsAnErrorThatNamesIt(t *testing.T) {
	app := load(t, strings.Replace(twoValues, "size: 1s", "size: 1h", 1))
	w := newWorld(t, rand.New(rand.NewPCG(1, 1)), app, 1, memlog.Options{})
	w.feed(9000)
	w.settle()
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	o := w.options()
	o.Memory = 1 << 20
	if _, err := recompute.Run(t.Context(), o); !errors.Is(err, recompute.ErrMemory) || !strings.Contains(err.Error(), `w, key "k=k`) {
		t.Errorf("got %v", err)
	}
	w.clean(w.options(), "with enough memory")
}
