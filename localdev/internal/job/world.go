package job

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/preflight"
	"github.com/llm-auto-optimizer/tidemark/functions/settings"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/boltstore"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
)

// connectWithin is how long a broker or a store has for its first answer.
const connectWithin = 15 * time.Second

// world is what a run works with: a log, a store, and what has to be taken down at the end.
type world struct {
	app     *spec.App
	pipes   []*pipeline.Pipeline
	brokers []string
	kafka   *kafkaio.Client
	store   statestore.Store
	closers []func() error

	publisher kafkaio.Publisher
}

// open connects to what the options name, or makes it.
func open(ctx context.Context, o *Options) (*world, error) {
	w := &world{app: o.App, brokers: o.Brokers}
	err := w.open(ctx, o)
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func (w *world) open(ctx context.Context, o *Options) (err error) {
	if w.pipes, err = settings.Compile(o.App); err != nil {
		return err
	}
	if o.Embedded() {
		if err := w.fake(); err != nil {
			return err
		}
	}
	connect, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	if w.kafka, err = settings.OpenKafka(connect, o.App, w.brokers); err != nil {
		return fmt.Errorf("no broker answers (--brokers): %w", err)
	}
	w.onClose(func() error { w.kafka.Close(); return nil })
	lacking, err := w.lacking(ctx, o) // before anything is made
	if err != nil {
		return err
	}
	if err := w.openStore(connect, o); err != nil {
		return err
	}
	if err := w.create(ctx, o, lacking); err != nil {
		return err
	}
	w.publisher = w.kafka
	if !o.Embedded() {
		w.publisher = preflight.Start(ctx, preflight.Deps{App: w.app, Pipelines: w.pipes, Store: w.store}, w.kafka, o.Logger)
	}
	return nil
}

// fake starts a broker in this process, on the loopback interface.
func (w *world) fake() error {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		return fmt.Errorf("start the broker of this process: %w", err)
	}
	w.onClose(func() error { cluster.Close(); return nil })
	w.brokers = cluster.ListenAddrs()
	return nil
}

func (w *world) openStore(ctx context.Context, o *Options) error {
	codec, err := statestore.ParseCodec(o.App.State.Compression)
	if err != nil {
		return err
	}
	switch {
	case o.Embedded():
		dir, err := FreshDir(o.StateDir)
		if err != nil {
			return err
		}
		w.onClose(func() error { return os.RemoveAll(dir) })
		return w.bolt(dir, codec)
	case len(o.Redis) > 0:
		if w.store, err = settings.OpenRedis(ctx, o.App, o.Redis); err != nil {
			return fmt.Errorf("no state store (--redis): %w", err)
		}
	case o.App.State.Backend == spec.BackendMemory:
		w.store = memstore.New()
	case o.App.State.Backend == spec.BackendBolt:
		dir := o.App.State.Path
		if o.StateDir != "" {
			dir = o.StateDir
		}
		return w.bolt(dir, codec)
	default:
		return fmt.Errorf("%w: %s, and no --redis", settings.ErrBackend, o.App.State.Backend)
	}
	w.onClose(w.store.Close)
	return nil
}

func (w *world) bolt(dir string, codec statestore.Codec) error {
	store, err := boltstore.Open(dir, boltstore.Options{Compression: codec})
	if err != nil {
		return fmt.Errorf("%w; choose another directory with --state-dir", err)
	}
	w.store = store
	w.onClose(store.Close)
	return nil
}

// FreshDir makes an empty directory of this run alone, under parent (made if it is not there), or under the system's temporary
// directory. The caller removes it.
func FreshDir(parent string) (string, error) {
	if parent != "" {
		if err := os.MkdirAll(parent, 0o700); err != nil {
			return "", fmt.Errorf("state directory: %w; choose another with --state-dir", err)
		}
	}
	dir, err := os.MkdirTemp(parent, "tidemark-")
	if err != nil {
		return "", fmt.Errorf("state directory: %w; choose another with --state-dir", err)
	}
	return dir, nil
}

func (w *world) onClose(f func() error) { w.closers = append(w.closers, f) }

// close takes down what open made, last things first.
func (w *world) close() error {
	var errs []error
	for _, c := range slices.Backward(w.closers) {
		errs = append(errs, c())
	}
	w.closers = nil
	return errors.Join(errs...)
}

// Topic is a topic that an app needs.
type Topic struct {
	Name       string
	Source     bool
	Partitions int32             // to create it with
	Configs    map[string]string // to create it with
}

// TopicsOf lists the topics of an app, each once: sources first, the ledger last. partitions is the number of partitions that
// sources and results are to be created with.
func TopicsOf(app *spec.App, partitions int32) []Topic {
	var out []Topic
	seen := map[string]bool{}
	add := func(t Topic) {
		if !seen[t.Name] {
			seen[t.Name] = true
			out = append(out, t)
		}
	}
	for _, name := range app.SourceTopics() {
		add(Topic{Name: name, Source: true, Partitions: partitions})
	}
	for i := range app.Pipelines {
		add(Topic{Name: app.Pipelines[i].SinkTopic, Partitions: partitions})
	}
	for i := range app.Pipelines {
		add(Topic{Name: app.Pipelines[i].LateTopic, Partitions: 1})
		add(Topic{Name: app.Pipelines[i].DeadLetterTopic, Partitions: 1})
	}
	// Committed metadata may name ledger records: they have to stay as long as the source topics' records, however long that is.
	internal := map[string]map[string]string{spec.LedgerTopic: {"retention.ms": "-1"}, spec.PanesTopic: {"cleanup.policy": "compact"}}
	for _, name := range app.InternalTopics() {
		add(Topic{Name: name, Partitions: 1, Configs: internal[name]})
	}
	return out
}

// Missing returns the topics that the brokers do not have.
func Missing(ctx context.Context, log kafkaio.Log, topics []Topic) ([]Topic, error) {
	var out []Topic
	for _, t := range topics {
		_, err := log.Partitions(ctx, []string{t.Name})
		switch {
		case errors.Is(err, kafkaio.ErrUnknownTopic):
			out = append(out, t)
		case err != nil:
			return nil, err
		}
	}
	return out, nil
}

// ErrMissingTopics is returned where topics do not exist and are not to be created.
var ErrMissingTopics = errors.New("topics do not exist")

// sourceBytes bounds what the broker of this process keeps of a source partition, in memory. Sample events wait while more
// than a small part of that is not folded yet.
const sourceBytes = "67108864"

// lacking returns the topics that are to be created.
func (w *world) lacking(ctx context.Context, o *Options) ([]Topic, error) {
	all := TopicsOf(o.App, o.Partitions)
	if o.Embedded() {
		return all, nil
	}
	missing, err := Missing(ctx, w.kafka, all)
	if err != nil {
		return nil, err
	}
	if len(missing) > 0 && !o.CreateTopics {
		names := make([]string, len(missing))
		for i, t := range missing {
			names[i] = t.Name
		}
		return nil, fmt.Errorf("%w: %s; create them, or let --create-topics do it", ErrMissingTopics, strings.Join(names, ", "))
	}
	return missing, nil
}

func (w *world) create(ctx context.Context, o *Options, topics []Topic) error {
	for _, t := range topics {
		if o.Embedded() {
			if t.Source && o.Feed.Input == "" {
				t.Configs = map[string]string{"retention.bytes": sourceBytes}
			}
			if !t.Source {
				t.Partitions = 1 // results come in one order
			}
		}
		err := w.kafka.CreateTopic(ctx, t.Name, t.Partitions, -1, t.Configs)
		if err != nil && !errors.Is(err, kafkaio.ErrTopicExists) {
			return err
		}
	}
	return nil
}
