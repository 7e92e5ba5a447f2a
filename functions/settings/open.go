package settings

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/cloud"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/redisstore"
)

// ErrBackend is returned for a spec whose state backend cannot serve a function.
var ErrBackend = errors.New("settings: state backend")

// Runtime is what a function works with, connected.
type Runtime struct {
	Settings
	App       *spec.App
	Pipelines []*pipeline.Pipeline
	Kafka     *kafkaio.Client
	Store     statestore.Store
	Signals   statestore.Signals // of the same servers; nil where they have none, or nobody is to be nudged
	Logger    *slog.Logger
	Cloud     *cloud.Cloud
}

// Open reads environment and spec and connects to Kafka and Redis. Logs go to w as JSON lines. The options are those of the spec:
// spec.WithFunctions, in a bootstrap with aggregate functions of its own.
func Open(ctx context.Context, getenv func(string) string, w io.Writer, with ...spec.Option) (*Runtime, error) {
	s, err := FromEnv(getenv)
	if err != nil {
		return nil, err
	}
	r := &Runtime{Settings: s, Logger: newLogger(w, s.logLevel(getenv))}
	c := &connector{Settings: s, aws: cloud.New(getenv)}
	c.secrets, r.Cloud = c.aws.Secrets(), c.aws
	if r.App, err = s.loadApp(ctx, c.aws, with...); err != nil {
		return nil, err
	}
	if r.Pipelines, err = Compile(r.App); err != nil {
		return nil, err
	}
	if r.App.State.Backend != spec.BackendRedis && len(s.Redis) == 0 {
		return nil, fmt.Errorf("%w: %s lives in one process and cannot be shared by functions; set %s", ErrBackend, r.App.State.Backend, EnvRedis)
	}
	if len(s.Redis) == 0 {
		return nil, fmt.Errorf("%w: redis, but %s is not set", ErrBackend, EnvRedis)
	}
	if r.Kafka, err = c.kafka(ctx, r.App); err != nil {
		return nil, err
	}
	if r.Store, err = c.redis(ctx, r.App); err != nil {
		r.Kafka.Close()
		return nil, err
	}
	if s.Nudge {
		r.Signals, _ = r.Store.(statestore.Signals)
	}
	return r, nil
}

// Compile compiles all pipelines of an app.
func Compile(app *spec.App) ([]*pipeline.Pipeline, error) {
	out := make([]*pipeline.Pipeline, 0, len(app.Pipelines))
	for i := range app.Pipelines {
		p, err := pipeline.Compile(app.Pipelines[i])
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// ErrNoBrokers is returned where neither settings nor spec name brokers.
var ErrNoBrokers = errors.New("no brokers")

// OpenKafka connects, as nobody and in plain text, to the brokers given, or else to those of the spec. Without either it returns
// ErrNoBrokers.
func OpenKafka(ctx context.Context, app *spec.App, brokers []string) (*kafkaio.Client, error) {
	return openKafka(ctx, app, brokers, kafkaio.Auth{})
}

func openKafka(ctx context.Context, app *spec.App, brokers []string, auth kafkaio.Auth) (*kafkaio.Client, error) {
	if len(brokers) == 0 {
		brokers = list(app.Consumer.BootstrapServers)
	}
	if len(brokers) == 0 {
		return nil, fmt.Errorf("%w: set %s, or kafka.consumer.bootstrap_servers in the spec", ErrNoBrokers, EnvBrokers)
	}
	return kafkaio.Open(ctx, kafkaio.Options{Brokers: brokers, Compression: app.Producer.Compression, Auth: auth})
}

// OpenRedis connects to a Redis server, or, with several URLs, to a cluster.
func OpenRedis(ctx context.Context, app *spec.App, urls []string) (statestore.Store, error) {
	codec, err := statestore.ParseCodec(app.State.Compression)
	if err != nil {
		return nil, err
	}
	return redisstore.Open(ctx, redisstore.Options{URLs: urls, Codec: codec})
}

// Now is the wall clock.
func Now() event.Time { return event.FromGo(time.Now()) }
