package crash

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/localdev/host"
)

// Deadlines that the functions are told. Fire keeps two seconds of its own back, and waits two for what a dead one left open.
const (
	ingestTimeout = 15 * time.Second
	fireTimeout   = 9 * time.Second
)

// implicit is the transaction.version from which on brokers add partitions and offsets to a transaction by themselves.
const implicit = 2

// instance is one function with its own ways to the servers, so that a proxy knows whose calls it carries. The ways stay, the
// function is another one in each stage.
type instance struct {
	name  string
	kind  string
	kafka *proxy
	redis *proxy

	mu sync.Mutex
	fn *host.Function
}

func (i *instance) function() *host.Function {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fn
}

// lab is what a run owns: servers, proxies, binaries, and the counts of what was done to them.
type lab struct {
	root, dir string
	logs      string // folder for complete logs, "" for none
	say       func(format string, args ...any)

	table    *table
	snares   *snares
	broker   *broker
	stores   *stores
	panes    atomic.Pointer[[16]byte] // id of the topic of the pane history
	all      []*instance
	named    map[string]*instance
	binaries map[string]string
	client   *kgo.Client // on the plain listener: producer and admin of the test
	admin    *kadm.Client
	version  int16 // transaction.version of the cluster
	closers  []func()

	kills, randomKills, failovers, lostWrites, lostBytes, flushes, bounces, commits, slots, drops, recycled atomic.Int64
}

// newLab builds the functions and starts everything. On an error nothing is left behind.
func newLab(ctx context.Context, o Options) (l *lab, err error) {
	l = &lab{root: o.Root, logs: o.Logs, say: o.say, table: newTable(!o.EssentialOnly), version: implicit, named: map[string]*instance{}, binaries: map[string]string{}}
	l.snares = &snares{table: l.table}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if l.dir, err = os.MkdirTemp("", "tidemark-crash-"); err != nil {
		return nil, fmt.Errorf("folder of the run: %w", err)
	}
	l.closers = append(l.closers, func() { _ = os.RemoveAll(l.dir) })
	jars, err := programs(ctx, l.root, o.Out)
	if err != nil {
		return nil, err
	}
	for _, kind := range []string{ingest, fire} {
		l.binaries[kind] = filepath.Join(l.dir, kind, "bootstrap")
		if err := host.Build(ctx, l.root, "./functions/"+kind+"/bootstrap", l.binaries[kind]); err != nil {
			return nil, err
		}
	}
	if err := l.servers(ctx, jars); err != nil {
		return nil, err
	}
	log, err := l.logFile("producer")
	if err != nil {
		return nil, err
	}
	opts := []kgo.Opt{kgo.SeedBrokers(l.broker.plain), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0), kgo.MetadataMinAge(250 * time.Millisecond)}
	if log != nil {
		opts = append(opts, kgo.WithLogger(kgo.BasicLogger(log, kgo.LogLevelDebug, func() string { return time.Now().Format("15:04:05.000 ") })))
	}
	if l.client, err = kgo.NewClient(opts...); err != nil {
		return nil, fmt.Errorf("client of the run: %w", err)
	}
	l.closers = append(l.closers, l.client.Close)
	l.admin = kadm.NewClient(l.client)
	return l, l.ownTopics(ctx)
}

// ownTopics makes the topics of every app, and notes the id of that of the pane history.
func (l *lab) ownTopics(ctx context.Context) error {
	if err := l.topics(ctx, map[string]int32{spec.LedgerTopic: 1, spec.PanesTopic: 1}); err != nil {
		return err
	}
	found, err := l.admin.ListTopics(ctx, spec.PanesTopic)
	if err = errors.Join(err, found.Error()); err != nil {
		return fmt.Errorf("id of %s: %w", spec.PanesTopic, err)
	}
	id := [16]byte(found[spec.PanesTopic].ID)
	l.panes.Store(&id)
	return nil
}

// servers starts proxies, Redis and Kafka.
func (l *lab) servers(ctx context.Context, jars string) error {
	scripts, err := readScripts(l.root)
	if err != nil {
		return err
	}
	advertised := map[string]string{}
	for _, name := range []string{"ingest-a", "ingest-b", "fire-a", "fire-b"} {
		i := &instance{name: name, kind: ingest}
		if name[0] == 'f' {
			i.kind = fire
		}
		if i.kafka, err = newProxy(ctx, name, point{function: i.kind, server: kafkaServer}, kafkaWire{&l.panes}, l.snares); err != nil {
			return err
		}
		l.closers = append(l.closers, i.kafka.close)
		if i.redis, err = newProxy(ctx, name, point{function: i.kind, server: redisServer}, scripts, l.snares); err != nil {
			return err
		}
		l.closers = append(l.closers, i.redis.close)
		l.all, l.named[name] = append(l.all, i), i
		advertised[name] = i.kafka.address()
	}
	redisLog, err := l.logFile("redis")
	if err != nil {
		return err
	}
	l.stores, err = newStores(ctx, l.dir, redisLog)
	if l.stores != nil {
		l.closers = append(l.closers, l.stores.close)
	}
	if err != nil {
		return err
	}
	l.leadStores(l.stores.primary.address)
	kafkaLog, err := l.logFile("kafka")
	if err != nil {
		return err
	}
	if l.broker, err = newBroker(ctx, l.root, jars, l.dir, advertised, kafkaLog); err != nil {
		return err
	}
	l.closers = append(l.closers, l.broker.kill)
	for _, i := range l.all {
		i.kafka.lead(l.broker.listeners[i.name])
	}
	return l.broker.start(ctx)
}

// leadStores points every function's way to Redis at another server, and cuts the connections to the one before.
func (l *lab) leadStores(address string) {
	for _, i := range l.all {
		i.redis.lead(address)
	}
}

// logFile returns where a process logs to, nil if nobody wants it.
func (l *lab) logFile(name string) (io.Writer, error) {
	if l.logs == "" {
		return nil, nil //nolint:nilnil // no log is no error
	}
	f, err := os.OpenFile(filepath.Join(l.logs, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", name, err)
	}
	l.closers = append(l.closers, func() { _ = f.Close() })
	return f, nil
}

// close ends everything, in the reverse order.
func (l *lab) close() {
	for _, i := range l.all {
		if fn := i.function(); fn != nil {
			fn.Close()
		}
	}
	for _, f := range slices.Backward(l.closers) {
		f()
	}
	l.closers = nil
}

// deploy gives every instance a new function that reads the spec.
func (l *lab) deploy(config string, timeout map[string]time.Duration) error {
	for _, i := range l.all {
		log, err := l.logFile(i.name)
		if err != nil {
			return err
		}
		fn := host.New(host.Options{
			Name: i.name, Binary: l.binaries[i.kind], Timeout: timeout[i.kind], Lenient: true, Log: log,
			Env: []string{
				"TIDEMARK_CONFIG=" + config, "TIDEMARK_BROKERS=" + i.kafka.address(), "TIDEMARK_REDIS=redis://" + i.redis.address(),
				"TIDEMARK_FIRE_TICK=50ms",
			},
		})
		i.mu.Lock()
		i.fn = fn
		i.mu.Unlock()
	}
	return nil
}

// undeploy ends the functions.
func (l *lab) undeploy() {
	for _, i := range l.all {
		if fn := i.function(); fn != nil {
			fn.Close()
		}
	}
}

// kill kills the function of an instance, and counts it if that ended an invocation.
func (l *lab) kill(name string) bool {
	ended := l.named[name].function().Kill()
	if ended {
		l.kills.Add(1)
	}
	return ended
}

// transactions sets the cluster's transaction.version, which decides how producers begin and end transactions.
func (l *lab) transactions(ctx context.Context, version int16) error {
	const upgrade, downgrade = 1, 2
	change := kadm.FeatureUpdate{Feature: "transaction.version", MaxVersionLevel: version, UpgradeType: upgrade}
	switch {
	case version == l.version:
		return nil
	case version < l.version:
		change.UpgradeType = downgrade
	}
	resp, err := l.admin.UpdateFeatures(ctx, false, change)
	if err == nil {
		err = resp.Error()
	}
	if err != nil {
		return fmt.Errorf("set transaction.version to %d: %w", version, err)
	}
	l.version = version
	return nil
}

// topics creates topics; those that are there stay. Brokers know all of them when it returns.
func (l *lab) topics(ctx context.Context, partitions map[string]int32) error {
	for name, n := range partitions {
		resp, err := l.admin.CreateTopic(ctx, n, 1, nil, name)
		if err = errors.Join(err, resp.Err); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return fmt.Errorf("create topic %s: %w", name, err)
		}
	}
	limit, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return poll(limit, nil, func(ctx context.Context) error { // a broker may hear late of what its controller has made
		found, err := l.admin.ListTopics(ctx, slices.Collect(maps.Keys(partitions))...)
		if err = errors.Join(err, found.Error()); err != nil {
			return fmt.Errorf("created topics: %w", err)
		}
		return nil
	})
}
