package cli

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/settings"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/job"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/progress"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/sample"
)

type runCmd struct {
	specFlag
	PrintConfig bool `help:"Print the built-in spec, with comments, and exit."`

	Brokers      []string `placeholder:"HOST:PORT" env:"TIDEMARK_BROKERS" help:"Kafka to work on, commas between addresses. Default: a broker in this process."`
	Redis        []string `placeholder:"URL" env:"TIDEMARK_REDIS" help:"Redis to keep state in, with --brokers; several URLs with commas are one cluster."`
	StateDir     string   `placeholder:"DIR" help:"Embedded: where the directory of the state is made, which goes at the end. With --brokers and state in bolt: that directory."`
	CreateTopics bool     `help:"Create the topics that --brokers do not have."`
	TakeOver     bool     `help:"With --brokers: take over again from the spec of the same name that took over from this one."`
	Partitions   int32    `default:"4" help:"Partitions of source topics that are created."`

	Input    string         `placeholder:"FILE.jsonl" help:"Write the records of this file (- is stdin) into the source topics."`
	Rate     float64        `placeholder:"N" help:"Write N sample records a second into the source topics. Embedded, without --input: 200."`
	Count    int64          `placeholder:"N" help:"End the sample records after N."`
	Keys     int            `default:"12" help:"Sample records: number of different keys."`
	Disorder *time.Duration `placeholder:"DURATION" help:"Sample records: how far out of order, in event time. Default: what the spec allows."`
	Late     float64        `default:"0.01" help:"Sample records: share that comes too late, 0 to 1."`
	Seed     uint64         `default:"1" help:"Sample records: the same seed makes the same keys and values."`
	Speed    float64        `placeholder:"X" help:"Sample records, embedded: event time passes X times as fast as the clock. Default: so that a window closes about every 10s."`

	For       time.Duration  `placeholder:"DURATION" help:"End after this time."`
	UntilIdle bool           `help:"Once all records are written and folded, close every window and end. Sample records end with --for or --count, else after 10000."`
	Tick      *time.Duration `placeholder:"DURATION" env:"TIDEMARK_FIRE_TICK" help:"Time between two looks for windows to close. Default: 1s, or what the template says."`
	Listen    string         `placeholder:"ADDR" default:"127.0.0.1:8088" help:"Address of the console in a browser, or off."`

	runtimeFlags
}

// Help is shown below the flags.
func (*runCmd) Help() string {
	return `Without --brokers everything is in this process: a broker, the state, sample records, and the two functions, invoked as Lambda would invoke them. Nothing is left behind.

Examples:

  tidemark run                                          sample records, results from about 15 s on
  tidemark run --config tidemark.yaml --rate 5000       an own spec, more records
  tidemark run --input events.jsonl --until-idle        the results of a file, then end
  tidemark run --json --for 30s | jq .                  for programs
  tidemark run --config tidemark.yaml --brokers localhost:9092 --redis redis://localhost:6379 --create-topics --rate 100

  tidemark run --runtime process --config infra/tidemark.yaml --brokers localhost:9092 --redis redis://localhost:6379 --create-topics --rate 100

The last one runs template.yaml as it is deployed: the bootstraps as processes behind the Runtime API, with their memory, time-outs and concurrency, its mappings and its schedules. --runtime container runs them in public.ecr.aws/lambda/provided:al2023, by docker. With --runtime served --runtime-api Ingest=0.0.0.0:9101 --runtime-api Fire=0.0.0.0:9102 --lambda-listen 0.0.0.0:9100 the containers are somebody else's (docker compose): a container of that image whose AWS_LAMBDA_RUNTIME_API is HOST:9101 is an environment of Ingest.

With --brokers nothing is written into source topics unless --input or --rate is given. A line of --input is
{"topic","partition","key","timestamp","headers","value"}; a record without partition goes where its key belongs.`
}

const (
	defaultRate = 200
	// defaultCount is the number of sample records where they have to end.
	defaultCount = 10_000
	// closesEvery is how often the smallest window closes by the clock, if --speed does not say otherwise.
	closesEvery = 10 * time.Second
	// coveredWindows is how many of the smallest windows sample records cover that come as fast as they can.
	coveredWindows = 20
)

// Run implements the command.
func (c *runCmd) Run(ctx context.Context, e *env) error {
	if c.PrintConfig {
		_, err := e.Out.Write(defaultSpec)
		return err
	}
	app, err := c.load()
	if err != nil {
		return err
	}
	if err := c.check(app, e); err != nil {
		return err
	}
	width := func() int { return progress.Width(e.Err) }
	terminal := progress.New(progress.Options{Out: e.Out, Err: e.Err, JSON: e.json, Width: width, Brief: progress.Width(e.Out) > 0, Now: time.Now, Where: wheres(app)})
	e.setLogs(terminal)
	o := job.Options{
		App: app, Brokers: c.Brokers, Redis: c.Redis, StateDir: c.StateDir, CreateTopics: c.CreateTopics, TakeOver: c.TakeOver, Partitions: c.Partitions,
		For: c.For, UntilIdle: c.UntilIdle, Tick: c.tick(), Listen: c.Listen, Terminal: terminal, Logger: e.logger,
	}
	if c.Listen == "off" {
		o.Listen = ""
	}
	if c.deployed() {
		if o.Deploy, err = c.options(ctx, c, e, app); err != nil {
			return err
		}
	}
	o.Feed = c.feed(app, o.Embedded(), e)
	c.announce(app, &o)
	return job.Run(ctx, o)
}

// tick is the time between two looks for windows to close.
func (c *runCmd) tick() time.Duration {
	if c.Tick == nil {
		return time.Second
	}
	return *c.Tick
}

// check refuses flags that do not go together.
func (c *runCmd) check(app *spec.App, e *env) error {
	embedded := len(c.Brokers) == 0
	if err := c.runtimeFlags.check(c, app); err != nil {
		return err
	}
	switch {
	case embedded && len(c.Redis) > 0:
		return usage("--redis needs --brokers: without it, broker and state are in this process")
	case embedded && c.CreateTopics:
		return usage("--create-topics needs --brokers: the broker in this process always has the topics")
	case embedded && c.TakeOver:
		return usage("--take-over needs --brokers: in this process no other spec has run")
	case !embedded && len(c.Redis) == 0 && app.State.Backend == spec.BackendRedis:
		return usage("--brokers needs --redis URL too: the spec keeps its state in redis (or set processor.state.backend to bolt or memory)")
	case !embedded && c.Speed != 0:
		return usage("--speed is for the broker in this process: on %s event time is the time of day", c.Brokers[0])
	case c.Input != "" && (c.Rate != 0 || c.Count != 0):
		return usage("--input and --rate or --count: the records come from the file or are made, not both")
	case !embedded && c.Rate == 0 && c.Count != 0:
		return usage("--count needs --rate with --brokers")
	case c.Rate < 0 || c.Speed < 0 || c.Count < 0 || c.For < 0:
		return usage("--rate, --speed, --count and --for must not be negative")
	case c.Late < 0 || c.Late > 1:
		return usage("--late must be from 0 to 1, got %v", c.Late)
	case c.Disorder != nil && *c.Disorder < 0:
		return usage("--disorder must not be negative, got %s", *c.Disorder)
	case c.Partitions < 1 || c.Partitions > 1000:
		return usage("--partitions must be from 1 to 1000, got %d", c.Partitions)
	case c.Keys < 1:
		return usage("--keys must be at least 1, got %d", c.Keys)
	case c.tick() < 10*time.Millisecond || c.tick() > 30*time.Second:
		return usage("--tick must be from 10ms to 30s, got %s", c.tick())
	}
	if c.Input != "" && c.Input != "-" {
		if _, err := os.Stat(c.Input); err != nil {
			return usage("--input: %w", err)
		}
	}
	if embedded {
		return nil
	}
	// Brokers are reached here as nobody and in plain text: who asks for more would otherwise get less.
	if auth := e.Getenv(settings.EnvKafkaAuth); auth != "" && auth != kafkaio.AuthNone.String() || e.Getenv(settings.EnvKafkaSecret) != "" {
		return usage("%s, %s: only functions authenticate; here brokers are reached in plain text", settings.EnvKafkaAuth, settings.EnvKafkaSecret)
	}
	return nil
}

// feed says what is written to the source topics.
func (c *runCmd) feed(app *spec.App, embedded bool, e *env) job.Feed {
	if c.Input != "" {
		return job.Feed{Input: c.Input, Stdin: e.In}
	}
	if !embedded && c.Rate == 0 {
		return job.Feed{}
	}
	f := job.Feed{Sample: true, Rate: c.Rate, Count: c.Count}
	if c.UntilIdle && c.For == 0 && c.Count == 0 {
		f.Count = defaultCount
	}
	smallest := job.Smallest(app).Duration()
	if embedded && c.Speed == 0 {
		c.Speed = max(1, float64(smallest)/float64(closesEvery))
	}
	if !embedded {
		c.Speed = 1
	}
	if f.Rate == 0 && (f.Count == 0 || c.For > 0) {
		f.Rate = defaultRate
	}
	step := float64(coveredWindows*smallest.Milliseconds()) / float64(max(1, f.Count))
	if f.Rate > 0 {
		step = c.Speed * 1000 / f.Rate
	}
	f.Events = sample.Options{
		Seed: c.Seed, Keys: c.Keys, Disorder: allowedDisorder(app), Late: c.Late, Start: event.FromGo(time.Now()), Step: step,
	}
	if c.Disorder != nil {
		f.Events.Disorder = *c.Disorder
	}
	return f
}

// allowedDisorder is how far out of order records may be without being late in any pipeline.
func allowedDisorder(app *spec.App) time.Duration {
	least := app.Pipelines[0].Watermark.MaxOutOfOrder
	for i := range app.Pipelines {
		least = min(least, app.Pipelines[i].Watermark.MaxOutOfOrder)
	}
	return least.Duration()
}

// announce says what is about to happen, and how long it takes.
func (c *runCmd) announce(app *spec.App, o *job.Options) {
	say := o.Terminal.Note
	from := defaultName
	if c.Config != "" {
		from = filepath.Base(c.Config)
	}
	where := "broker and state in this process"
	if !o.Embedded() {
		where = "on " + c.Brokers[0]
	}
	say("%s (%s), %s; Ctrl-C ends it", app.Name, from, where)
	if o.Deploy != nil {
		say("%s", c.describe(o.Deploy.Template))
	}
	f := &o.Feed
	switch {
	case f.Input != "":
		say("records: %s", f.Input)
	case f.Sample && f.Rate > 0 && c.Speed != 1:
		say("records: %g a second, made up; event time runs at %gx, so that the smallest window, %s, takes %s (--speed changes it)",
			f.Rate, c.Speed, job.Smallest(app).Duration(), time.Duration(float64(job.Smallest(app).Duration())/c.Speed).Round(time.Second/10))
	case f.Sample && f.Rate > 0:
		say("records: %g a second, made up", f.Rate)
	case f.Sample:
		say("records: %d, made up", f.Count)
	}
	if f.Sample && len(wheres(app)) > 0 {
		names := slices.Sorted(maps.Keys(wheres(app)))
		say("where of %s: sample records are made without regard to it, so that it may filter them all; --input FILE writes your own", strings.Join(names, ", "))
	}
}
