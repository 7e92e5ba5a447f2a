package crash

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Options say how much a run does. The counts are the least that is done.
type Options struct {
	Root string    // top of the repository
	Out  io.Writer // progress
	Logs string    // folder, which exists, for complete logs of functions and servers; "" for none
	Seed uint64

	Stages    int // apps, each from its first record to its last result
	Kills     int // SIGKILLs of functions in an invocation
	Failovers int // of Redis, with lost writes
	Flushes   int // FLUSHALL
	Bounces   int // of the broker
	Vanished  int // times that single slots disappear
	// EssentialOnly leaves out the calls that cold starts alone make: kills fall at the others.
	EssentialOnly bool
	Rebuild       int           // records to rebuild after a FLUSHALL; 0 leaves that out
	Deadline      time.Duration // of the invocations that rebuild them

	began time.Time
	mu    *sync.Mutex
}

// extraStages bounds how many stages are added because counts were not reached.
const extraStages = 8

// Report is what a run came to.
type Report struct {
	Stages, Kills, Failovers, Flushes, Bounces int64
	Late                                       int64 // records in late topics
	Early, Replacing                           int64 // panes that went out early, and panes that replace others
	Lost, Doubled                              int64
	Problems                                   []string
	Rebuild                                    Rebuild
}

// Results are the lines that end a run: RESULT NAME VALUE UNIT.
func (r Report) Results() string {
	var w strings.Builder
	line := func(name string, value any, unit string) { fmt.Fprintf(&w, "RESULT %s %v %s\n", name, value, unit) }
	if r.Rebuild.Records > 0 {
		line("rebuild_records", r.Rebuild.Records, "records")
		line("rebuild_invocations", r.Rebuild.Invocations, "invocations")
		line("rebuild_peak_rss", r.Rebuild.PeakRSS>>20, "MB")
		line("rebuild_seconds", strconv.FormatFloat(r.Rebuild.Took.Seconds(), 'f', 1, 64), "s")
	}
	line("schedules", r.Stages, "runs")
	line("kills", r.Kills, "kills")
	line("failovers", r.Failovers, "failovers")
	line("flushes", r.Flushes, "flushes")
	line("bounces", r.Bounces, "bounces")
	line("lost", r.Lost, "records")
	line("doubled", r.Doubled, "records")
	return w.String()
}

// Failed says why the run has failed, "" if it has not.
func (r Report) Failed() string {
	if len(r.Problems) == 0 {
		return ""
	}
	return fmt.Sprintf("%d lost, %d doubled, %d problems; the first one: %s", r.Lost, r.Doubled, len(r.Problems), r.Problems[0])
}

// say prints a line of progress with the time since the beginning.
func (o Options) say(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, _ = fmt.Fprintf(o.Out, "%6.1fs  %s\n", time.Since(o.began).Seconds(), fmt.Sprintf(format, args...))
}

// Run does what the options say. The error is about the run itself: servers that do not start, a context that ends. What the
// functions did wrong is in the report.
func Run(ctx context.Context, o Options) (r Report, err error) {
	o.began, o.mu = time.Now(), &sync.Mutex{}
	o.say("TIDEMARK_SEED=%d", o.Seed)
	l, err := newLab(ctx, o)
	if err != nil {
		return r, err
	}
	defer l.close()
	o.say("Kafka on %s, Redis on %s, data in %s", l.broker.plain, l.stores.primary.address, l.dir)
	err = stages(ctx, l, o, &r)
	r.count(l, o)
	if err != nil {
		return r, err
	}
	o.say("kills by call:\n%s", l.table)
	o.say("%d kills, %d of them at random moments; %d failovers lost %d acknowledged writes (%d bytes); %d bounces, %d of them in a commit; "+
		"%d slots vanished, %d batches dropped", l.kills.Load(), l.randomKills.Load(), l.failovers.Load(), l.lostWrites.Load(), l.lostBytes.Load(),
		l.bounces.Load(), l.commits.Load(), l.slots.Load(), l.drops.Load())
	if o.Rebuild > 0 && ctx.Err() == nil {
		r.Rebuild, err = rebuild(ctx, l, o.Rebuild, o.Deadline)
		r.Lost, r.Doubled = r.Lost+r.Rebuild.verdict.lost, r.Doubled+r.Rebuild.verdict.doubled
		r.Problems = append(r.Problems, r.Rebuild.verdict.problems...)
	}
	return r, err
}

// count takes the counts over, and says which were not reached.
func (r *Report) count(l *lab, o Options) {
	r.Kills, r.Failovers, r.Flushes, r.Bounces = l.kills.Load(), l.failovers.Load(), l.flushes.Load(), l.bounces.Load()
	for _, c := range []struct {
		name       string
		have, want int64
	}{
		{"kills", r.Kills, int64(o.Kills)},
		{"failovers", r.Failovers, int64(o.Failovers)},
		{"flushes", r.Flushes, int64(o.Flushes)},
		{"bounces", r.Bounces, int64(o.Bounces)},
	} {
		if c.have < c.want {
			r.Problems = append(r.Problems, fmt.Sprintf("%d %s, want at least %d", c.have, c.name, c.want))
		}
	}
	if r.Stages > 0 && r.Late == 0 {
		r.Problems = append(r.Problems, "no record was late in any stage")
	}
	if r.Stages > 0 && (r.Early == 0 || r.Replacing == 0) {
		r.Problems = append(r.Problems, fmt.Sprintf("%d panes went out early and %d replaced others, want some of both", r.Early, r.Replacing))
	}
	if missed := l.table.missed(); len(missed) > 0 {
		r.Problems = append(r.Problems, "no kill fell at: "+list(missed))
	}
}

// stages runs all stages, and more until the counts are reached.
func stages(ctx context.Context, l *lab, o Options, r *Report) error {
	random := rand.New(rand.NewPCG(o.Seed, 0))
	plan := draw(random, o.Stages, map[fault]int{
		killAtCall: o.Kills - o.Kills/5, killAtRandom: o.Kills / 5, failover: o.Failovers, flush: o.Flushes, bounce: o.Bounces, vanish: o.Vanished,
	})
	run := strconv.FormatUint(o.Seed%(36*36*36*36), 36)
	for i := range o.Stages + extraStages {
		if i >= o.Stages {
			missed, lacking := len(l.table.missed()), int(int64(o.Kills)-l.kills.Load())
			if missed == 0 && lacking <= 0 {
				return nil
			}
			plan = append(plan, draw(random, 1, map[fault]int{killAtCall: max(missed, lacking, 1)})[0])
		}
		id := fmt.Sprintf("%s-%d", run, i)
		// Every third stage has transactions as brokers before 4.0 have them.
		version := int16(implicit)
		if i%3 == 2 {
			version--
		}
		if err := l.transactions(ctx, version); err != nil {
			return err
		}
		v, err := one(ctx, l, id, random.Uint64(), mixes[i%len(mixes)], plan[i])
		if err != nil {
			if !errors.Is(err, errStuck) && !errors.Is(err, errHalted) {
				return fmt.Errorf("stage %s: %w", id, err)
			}
			// What the functions do not get done is theirs to answer for.
			r.Problems = append(r.Problems, fmt.Sprintf("stage %s: %v", id, err))
			o.say("stage %s: %v", id, err)
			return nil
		}
		r.Stages, r.Late = r.Stages+1, r.Late+int64(v.late)
		r.Early, r.Replacing = r.Early+int64(v.early), r.Replacing+int64(v.replacing)
		r.Lost, r.Doubled = r.Lost+v.lost, r.Doubled+v.doubled
		for _, p := range v.problems {
			r.Problems = append(r.Problems, "stage "+id+": "+p)
		}
		o.say("stage %s: %d records, %d panes (%d early, %d replace others), %d late, %d dead letters, %d plans, transaction.version %d: %d lost, %d doubled | so far %d kills, %d failovers, %d flushes, %d bounces",
			id, v.records, v.panes, v.early, v.replacing, v.late, v.dead, v.plans, version, v.lost, v.doubled, l.kills.Load(), l.failovers.Load(), l.flushes.Load(), l.bounces.Load())
		for _, p := range v.problems[:min(len(v.problems), 10)] {
			o.say("  %s", p)
		}
	}
	return nil
}

// one runs one stage, with a line every few seconds.
func one(ctx context.Context, l *lab, id string, seed uint64, queries []query, faults []fault) (v verdict, err error) {
	s, err := newStage(ctx, l, id, seed, queries, fireTimeout)
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, s.close(context.WithoutCancel(ctx))) }()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(5 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				s.line(id)
			}
		}
	}()
	defer func() { close(stop); <-done }()
	return s.run(ctx, script(faults))
}

// line says how far a stage is.
func (s *stage) line(id string) {
	total := int64(0)
	for _, p := range s.reader.plans() {
		total += max(p.plan, 0)
	}
	s.input.mu.Lock()
	records := len(s.input.events) + len(s.input.dead)
	s.input.mu.Unlock()
	s.say("  %s: %d records, %d plans, %d kills, %d failovers, %d flushes, %d bounces", id, records, total, s.kills.Load(), s.failovers.Load(), s.flushes.Load(), s.bounces.Load())
}
