package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/settings"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/console"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/watch"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

type consoleCmd struct {
	stateFlags
	Brokers []string `placeholder:"HOST:PORT" env:"TIDEMARK_BROKERS" help:"The Kafka that has the topics. Default: the spec's bootstrap_servers."`
	Listen  string   `placeholder:"ADDR" default:"127.0.0.1:8088" help:"Address of the console in a browser."`
}

// Help is shown below the flags.
func (*consoleCmd) Help() string {
	return `The console of an app that others run: functions on Lambda, or another tidemark run. It shows why windows have not fired, partitions, windows, results, late records, dead letters and the ledger, and what is in trouble.

It only reads: it joins no group, writes nothing, and changes no state. What functions log, and how long they take, is not to be seen from outside.

Examples:

  tidemark console --config tidemark.yaml --brokers localhost:9092 --redis redis://localhost:6379
  tidemark console --config tidemark.yaml --brokers localhost:9092 --redis redis://localhost:6379 --json | jq .lag

Brokers and Redis that ask who this is are reached as the functions reach them: TIDEMARK_KAFKA_AUTH, TIDEMARK_KAFKA_SECRET, TIDEMARK_REDIS_AUTH and the others, with --config and --redis given. --listen on an address that is not of this machine alone shows records to whoever reaches it.`
}

// watched is what a console looks at.
type watched struct {
	app   *spec.App
	pipes []*pipeline.Pipeline
	store statestore.Store
	kafka *kafkaio.Client
}

func (w *watched) close() error {
	if w.kafka != nil {
		w.kafka.Close()
	}
	return w.store.Close()
}

// connectConsole is how long brokers and state store have for their first answer.
const connectConsole = 15 * time.Second

// connect opens brokers and state: as the functions do where the environment says how to authenticate, else as nobody.
func (c *consoleCmd) connect(ctx context.Context, e *env) (*watched, error) {
	ctx, cancel := context.WithTimeout(ctx, connectConsole)
	defer cancel()
	if auth := e.Getenv(settings.EnvKafkaAuth); auth != "" && auth != kafkaio.AuthNone.String() || e.Getenv(settings.EnvRedisAuth) != "" {
		if c.Config == "" || len(c.Redis) == 0 {
			return nil, usage("%s, %s: with authentication --config and --redis are needed", settings.EnvKafkaAuth, settings.EnvRedisAuth)
		}
		r, err := settings.Open(ctx, func(name string) string {
			switch {
			case name == settings.EnvConfig:
				return c.Config
			case name == settings.EnvRedis:
				return strings.Join(c.Redis, ",")
			case name == settings.EnvBrokers && len(c.Brokers) > 0:
				return strings.Join(c.Brokers, ",")
			}
			return e.Getenv(name)
		}, e.Err)
		if err != nil {
			return nil, err
		}
		return &watched{r.App, r.Pipelines, r.Store, r.Kafka}, nil
	}
	s, err := c.open(ctx, e, true)
	if err != nil {
		return nil, err
	}
	w := &watched{app: s.app, pipes: s.pipes, store: s.Store}
	if w.kafka, err = settings.OpenKafka(ctx, s.app, c.Brokers); err != nil {
		return nil, errors.Join(fmt.Errorf("no broker answers (--brokers): %w", err), s.Close())
	}
	return w, nil
}

// Run implements the command.
func (c *consoleCmd) Run(ctx context.Context, e *env) (err error) {
	w, err := c.connect(ctx, e)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	board := console.NewBoard(w.app, console.ModeWatch, time.Now)
	page, err := console.Listen(ctx, c.Listen, board)
	if err != nil {
		return fmt.Errorf("%w; choose another address with --listen ADDR", err)
	}
	defer func() { err = errors.Join(err, page.Close()) }()
	_, _ = fmt.Fprintf(e.Err, "%s, run by others; this only reads; Ctrl-C ends it\nconsole: %s\n", w.app.Name, page.URL())
	watching, stop := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer stop()
	work.Go(func() {
		watch.Run(watching, watch.Options{App: w.app, Pipelines: w.pipes, Log: w.kafka, Store: w.store, Board: board, Logger: e.logger, Results: true})
	})
	if !e.json {
		<-ctx.Done()
		return nil
	}
	return c.print(ctx, e, board)
}

// print writes a line a second until ctx ends.
func (c *consoleCmd) print(ctx context.Context, e *env, board *console.Board) error {
	defer board.Watch()()
	out := json.NewEncoder(e.Out)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		s := board.Snapshot()
		s.LastResults = []json.RawMessage{}
		err := out.Encode(struct {
			Type string `json:"type"`
			console.Snapshot
			Troubles []console.Trouble `json:"troubles"`
		}{"watch", s, board.Explanation().Troubles})
		if err != nil {
			return fmt.Errorf("write output: %w", err)
		}
	}
}
