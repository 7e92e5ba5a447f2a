package job_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/llm-auto-optimizer/tidemark/functions/ops"
	"github.com/llm-auto-optimizer/tidemark/functions/settings"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/job"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/progress"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/checkpoint"
	"github.com/llm-auto-optimizer/tidemark/tests/output"
)

// exporting is a place whose spec asks for checkpoints. Its state is in memory, so each run begins without.
func exporting(t *testing.T) *place {
	t.Helper()
	p := newPlace(t, "checkpoint_interval: 1s")
	p.app.State.Backend = "memory"
	p.app.State.CheckpointPath = "is not used with --state-dir"
	return p
}

// start begins a run that goes on until stop is called, which returns its error. Windows stay open.
func (p *place) start(t *testing.T, input ...string) (said *output.Buffer, stop func() error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "in.jsonl")
	if err := os.WriteFile(file, []byte(strings.Join(input, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	said = &output.Buffer{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- job.Run(ctx, job.Options{
			App: p.app, Brokers: p.brokers, StateDir: p.dir, CreateTopics: true, Partitions: 2, Feed: job.Feed{Input: file},
			Tick: 20 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(said, nil)),
			Terminal: progress.New(progress.Options{Out: &bytes.Buffer{}, Err: said, Width: func() int { return 0 }, Now: time.Now}),
		})
	}()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { _ = stop() })
	return said, stop
}

// newest reads the newest checkpoint: how far its slots are, by partition.
func (p *place) newest(t *testing.T) (applied map[int32]int64, path string) {
	t.Helper()
	applied = map[int32]int64{}
	r, err := checkpoint.Restore(t.Context(), checkpoint.NewDirectory(filepath.Join(p.dir, "checkpoints")), p.app.Name, "", nothing{},
		func(slot statestore.Slot, m statestore.Meta) bool { applied[slot.Partition] = m.Applied; return false }, func(checkpoint.Result) {})
	if err != nil && !errors.Is(err, checkpoint.ErrNone) {
		t.Fatal(err)
	}
	return applied, r.Path
}

// nothing is a store that is never used.
type nothing struct{ checkpoint.Sink }

// awaitApplied waits until the newest checkpoint has applied so many records of both partitions.
func (p *place) awaitApplied(t *testing.T, want int64) {
	t.Helper()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.After(30 * time.Second); ; {
		applied, _ := p.newest(t)
		if applied[0]+applied[1] == want {
			return
		}
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatalf("applied in the newest checkpoint: %v, want %d", applied, want)
		}
	}
}

// awaitResults waits until so many results are there: fire looks by itself, whenever it does.
func (p *place) awaitResults(t *testing.T, want int) {
	t.Helper()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.After(30 * time.Second); len(p.sums(t)) < want; {
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatalf("results %v, want %d", p.sums(t), want)
		}
	}
}

// TestARunGoesOnFromItsCheckpoint runs with state in memory. The second run imports what the first one exported, reads nothing of
// the log that it has, and closes the windows that the first one left open.
func TestARunGoesOnFromItsCheckpoint(t *testing.T) {
	p := exporting(t)
	said, stop := p.start(t, event(0, 1000, 1), event(1, 1100, 2), event(0, 1200, 4), event(1, 1300, 8))
	said.Await(t, "none in "+filepath.Join(p.dir, "checkpoints")+" yet")
	p.awaitApplied(t, 4) // while it runs
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if applied, _ := p.newest(t); applied[0] != 2 || applied[1] != 2 {
		t.Fatalf("applied at the end: %v", applied)
	}
	said, stop = p.start(t, event(0, 5000, 16), event(1, 5000, 32))
	said.Await(t, "2 slots imported\n")
	p.awaitApplied(t, 6)
	p.awaitResults(t, 1)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{`{"count":4,"sum":15}`}, p.sums(t)); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	if text := said.String(); strings.Contains(text, "state restored") {
		t.Errorf("the log was read again:\n%s", text)
	}
	files, err := filepath.Glob(filepath.Join(p.dir, "checkpoints", "*"))
	if err != nil || len(files) == 0 || len(files) > checkpoint.Keep {
		t.Errorf("files %v, %v", files, err)
	}
}

// TestTheLogRebuildsWhatACheckpointDoesNot makes the checkpoint unreadable, of another app's pipelines, or too old.
func TestTheLogRebuildsWhatACheckpointDoesNot(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, p *place, b []byte) []byte
		says  string
	}{
		"damaged":   {func(_ *testing.T, _ *place, b []byte) []byte { b[len(b)/2] ^= 1; return b }, "checkpoint: damaged"},
		"truncated": {func(_ *testing.T, _ *place, b []byte) []byte { return b[:len(b)-3] }, "before its trailer"},
		"newer":     {func(_ *testing.T, _ *place, b []byte) []byte { b[8] = 9; return b }, "it is of version 9, this program reads up to 1"},
		"of another pipeline": {func(t *testing.T, p *place, _ []byte) []byte {
			return p.written(t, statestore.Slot{Pipeline: "0123456789abcdef"}, statestore.Meta{})
		}, "0 slots imported, 1 of other pipelines\n"},
		"too old": {func(t *testing.T, p *place, _ []byte) []byte {
			return p.written(t, p.slot(t, 0), statestore.Meta{})
		}, "0 slots imported, 1 too old to be of use\n"},
	} {
		t.Run(name, func(t *testing.T) {
			p := exporting(t)
			_, stop := p.start(t, event(0, 1000, 1), event(1, 1100, 2), event(0, 1200, 4), event(1, 1300, 8))
			p.awaitApplied(t, 4)
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			_, path := p.newest(t)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			others, err := filepath.Glob(filepath.Join(p.dir, "checkpoints", "*"))
			for _, o := range others {
				err = errors.Join(err, os.Remove(o))
			}
			if err = errors.Join(err, os.WriteFile(path, c.spoil(t, p, b), 0o600)); err != nil {
				t.Fatal(err)
			}
			said, stop := p.start(t, event(0, 5000, 16), event(1, 5000, 32))
			said.Await(t, c.says)
			p.awaitApplied(t, 6)
			p.awaitResults(t, 1)
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{`{"count":4,"sum":15}`}, p.sums(t)); diff != "" {
				t.Errorf("results (-want +got):\n%s\n%s", diff, said)
			}
			if !strings.Contains(said.String(), "state restored") {
				t.Errorf("the log was not read again:\n%s", said)
			}
		})
	}
}

// slot names the slot of a partition.
func (p *place) slot(t *testing.T, partition int32) statestore.Slot {
	t.Helper()
	pipes, err := settings.Compile(p.app)
	if err != nil {
		t.Fatal(err)
	}
	parts, err := p.client.Partitions(t.Context(), []string{"in"})
	if err != nil {
		t.Fatal(err)
	}
	return statestore.Slot{Pipeline: pipes[0].ID(), TopicID: parts[partition].TopicID, Topic: "in", Partition: partition}
}

// written is a checkpoint of the app with one slot that has nothing but a head.
func (p *place) written(t *testing.T, slot statestore.Slot, m statestore.Meta) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := checkpoint.NewWriter(&b, checkpoint.Header{App: p.app.Name, CreatedMS: 1})
	if err = errors.Join(err, w.Begin(slot, m), w.End(), w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestACheckpointFromBeforeANewBeginning is of a pipeline whose group was deleted to begin anew: it is not used, and not by a later
// run either, when the group has offsets again.
func TestACheckpointFromBeforeANewBeginning(t *testing.T) {
	p := exporting(t)
	_, stop := p.start(t, event(0, 1000, 1), event(1, 1100, 2))
	p.awaitApplied(t, 2)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	pipes, err := settings.Compile(p.app)
	if err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if deleted, err := kadm.NewClient(cl).DeleteGroups(t.Context(), pipes[0].Group()); err != nil || deleted.Error() != nil {
		t.Fatal(err, deleted.Error())
	}
	_, before := p.newest(t)
	said, stop := p.start(t, event(0, 1200, 4))
	said.Await(t, "0 slots imported, 2 from before the pipeline began anew\n")
	said.Await(t, "checkpoint made")
	if _, path := p.newest(t); path == before {
		t.Errorf("%s is still the newest", path)
	}
	p.awaitApplied(t, 3)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func TestAPlaceThatCannotBeWrittenIsDoneWithoutAndNamesTheFlag(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p := exporting(t)
	p.dir, p.app.State.CheckpointPath = "", filepath.Join(file, "checkpoints")
	said, stop := p.start(t, event(0, 1000, 1))
	said.Await(t, "choose another directory with --state-dir")
	if err := stop(); err != nil || !strings.Contains(said.String(), file) {
		t.Errorf("%v, %q, want the path", err, said)
	}
	p.dir = filepath.Join(t.TempDir(), "state")
	if _, err := p.run(t, event(0, 1000, 1), event(1, 1000, 1)); err != nil {
		t.Errorf("with --state-dir: %v", err)
	}
	if applied, _ := p.newest(t); applied[0]+applied[1] < 2 {
		t.Errorf("applied %v in the checkpoint under --state-dir", applied)
	}
}

func TestNoCheckpointsUnlessTheSpecAsksForThem(t *testing.T) {
	p := exporting(t)
	p.app.State.CheckpointPath = ""
	if _, err := p.run(t, event(0, 1000, 1), event(1, 1000, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(p.dir, "checkpoints")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("checkpoints: %v", err)
	}
}

func TestPlacesOfCheckpoints(t *testing.T) {
	app := newPlace(t, "").app
	for _, c := range [][3]string{
		{"", "", ""}, {"", "/d", ""}, {"a/b", "", "a/b"}, {"a/b", "d", filepath.Join("d", "checkpoints")}, {"s3://b/p", "", "s3://b/p"}, {"s3://b/p", "/d", "s3://b/p"},
	} {
		app.State.CheckpointPath = c[0]
		if got := job.CheckpointPlace(app, c[1]); got != c[2] {
			t.Errorf("checkpoint_path %q with --state-dir %q: %q, want %q", c[0], c[1], got, c[2])
		}
	}
	t.Setenv("AWS_REGION", "eu-west-3")
	for place, want := range map[string]string{"s3://b/p": "s3://b/p/N", "dir": filepath.Join("dir", "N")} {
		target, err := ops.Target(t.Context(), place)
		if err != nil || target.Path("N") != want {
			t.Errorf("%s: %v", place, err)
		}
	}
	if _, err := ops.Target(t.Context(), "s3://"); err == nil {
		t.Error("s3:// is a place")
	}
}
