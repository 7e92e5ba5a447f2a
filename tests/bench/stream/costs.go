package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/redis/go-redis/v9"

	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// usage is what a Redis server says it has done so far.
type usage struct {
	cpu      float64 // seconds, user and system
	requests float64 // commands of clients: those that scripts call are not in it
	inner    float64 // commands that scripts called
	in, out  float64 // bytes on the network
}

// redisUsage returns a function that reads the accounts of a Redis server. Whatever else uses the server is in them.
func redisUsage(url string) (func() (usage, error), error) {
	o, err := redis.ParseURL(url)
	if err != nil {
		return nil, errors.New("-redis: not a Redis URL")
	}
	c := redis.NewClient(o)
	return func() (u usage, err error) {
		info, err := c.Info(context.Background(), "cpu", "stats", "commandstats").Result()
		if err != nil {
			return u, err
		}
		for line := range strings.Lines(info) {
			k, v, _ := strings.Cut(strings.TrimSpace(line), ":")
			name, command := strings.CutPrefix(k, "cmdstat_")
			if command {
				v, _, _ = strings.Cut(strings.TrimPrefix(v, "calls="), ",")
			}
			f, err := strconv.ParseFloat(v, 64)
			if err != nil {
				continue // text, which nothing below asks for
			}
			switch {
			case k == "used_cpu_sys" || k == "used_cpu_user":
				u.cpu += f
			case k == "total_net_input_bytes":
				u.in = f
			case k == "total_net_output_bytes":
				u.out = f
			case command && fromClient(name):
				u.requests += f
			case command:
				u.inner += f
			}
		}
		return u, nil
	}, nil
}

// fromClient says whether the state store sends a command itself, other than from a script.
func fromClient(command string) bool {
	switch command {
	case "eval", "evalsha", "hello", "info", "scan":
		return true
	}
	return false
}

func (u usage) minus(v usage) usage {
	return usage{cpu: u.cpu - v.cpu, requests: u.requests - v.requests, inner: u.inner - v.inner, in: u.in - v.in, out: u.out - v.out}
}

// counted is a store that counts what is asked of it.
type counted struct {
	statestore.Store
	commits atomic.Int64
}

// Commit counts, whatever comes of it.
func (c *counted) Commit(ctx context.Context, slot statestore.Slot, d statestore.Commit) (statestore.Meta, error) {
	c.commits.Add(1)
	return c.Store.Commit(ctx, slot, d)
}

// CommitAll counts as well.
func (c *counted) CommitAll(ctx context.Context, commits []statestore.SlotCommit) []statestore.Answer[statestore.Meta] {
	c.commits.Add(int64(len(commits)))
	return statestore.CommitAll(ctx, c.Store, commits)
}

// StatusAll is the store's own, as all that follow: it answers together what it can.
func (c *counted) StatusAll(ctx context.Context, slots []statestore.Slot) []statestore.Answer[statestore.Status] {
	return statestore.StatusAll(ctx, c.Store, slots)
}

// RaiseAll implements statestore.Together.
func (c *counted) RaiseAll(ctx context.Context, raises []statestore.SlotRaise) []statestore.Answer[statestore.Meta] {
	return statestore.RaiseAll(ctx, c.Store, raises)
}

// IndexAll implements statestore.Together.
func (c *counted) IndexAll(ctx context.Context, asked []statestore.SlotIndex) []statestore.Answer[[]statestore.DeltaRef] {
	return statestore.IndexAll(ctx, c.Store, asked)
}

// SweepAll implements statestore.Together.
func (c *counted) SweepAll(ctx context.Context, sweeps []statestore.SlotSweep) []statestore.Answer[struct{}] {
	return statestore.SweepAll(ctx, c.Store, sweeps)
}

// processCPU is the CPU time of this process, user and system, in seconds.
func processCPU() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}

// published is the number of records of a topic, and the bytes of their keys, values and headers, before any compression.
type published struct{ records, bytes int }

func (p published) each() float64 { return float64(p.bytes) / float64(max(1, p.records)) }

func count(ctx context.Context, log kafkaio.Log, topic string) (published, error) {
	records, err := kafkaio.ReadAll(ctx, log, topic)
	if err == nil && len(records) == 0 {
		err = fmt.Errorf("nothing was published to %s", topic)
	}
	p := published{records: len(records)}
	for i := range records {
		p.bytes += len(records[i].Key) + len(records[i].Value)
		for _, h := range records[i].Headers {
			p.bytes += len(h.Key) + len(h.Value)
		}
	}
	return p, err
}

// costs is what one query came to.
type costs struct {
	millions          float64 // of events
	payloads, ticks   int
	ingest, fire      float64 // CPU seconds of this process
	ingestServer      float64 // CPU seconds of the server meanwhile
	fireServer        float64
	server            usage
	commits           int64
	results, accounts published // of the result topic and the ledger
}

// total is all CPU seconds.
func (c costs) total() float64 { return c.ingest + c.fire + c.server.cpu }

// print writes one line for each coefficient of a cost model.
func (c costs) print(name string) {
	per := func(what string, v float64, unit string) {
		fmt.Printf("RESULT %s_%s %.4g %s\n", name, what, v/c.millions, unit)
	}
	per("client", c.ingest+c.fire, "cpu_s_per_M")
	per("ingest", c.ingest, "cpu_s_per_M")
	per("fire", c.fire, "cpu_s_per_M")
	per("redis", c.server.cpu, "cpu_s_per_M")
	per("redis_ingest", c.ingestServer, "cpu_s_per_M")
	per("redis_fire", c.fireServer, "cpu_s_per_M")
	per("total", c.total(), "cpu_s_per_M")
	per("payloads", float64(c.payloads), "invocations_per_M")
	per("ticks", float64(c.ticks), "ticks_per_M")
	per("commits", float64(c.commits), "commits_per_M")
	per("redis_requests", c.server.requests, "requests_per_M")
	per("redis_inner", c.server.inner, "commands_per_M")
	per("redis_in", c.server.in/1e6, "MB_per_M")
	per("redis_out", c.server.out/1e6, "MB_per_M")
	per("results", float64(c.results.records), "results_per_M")
	fmt.Printf("RESULT %s_result_size %.4g bytes_each\n", name, c.results.each())
	fmt.Printf("RESULT %s_ledger_size %.4g bytes_each\n", name, c.accounts.each())
}
