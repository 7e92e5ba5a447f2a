package crash

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/redisstore"
)

// Bounds of a rebuild.
const (
	// maxRSS is the most memory that the process of fire may take, in bytes: half of what its Lambda has.
	maxRSS = 512 << 20
	// rebuildParts is the least number of invocations that a rebuild in parts has, from a million records on.
	rebuildParts = 2
	// maxInvocations ends a rebuild that does not come to its end.
	maxInvocations = 200
	// perPayload is how many records of each partition a batch has.
	perPayload = 500
)

// large is a query whose windows all stay open: a day of records in windows of an hour, and a bound of two days.
var large = query{name: "large", bound: 48 * 3600 * 1000, more: ", p50, p95", windows: `[{name: w, type: tumbling, size: 1h, allowed_lateness: 0s}]`}

// Rebuild is what became of a large state that was lost as a whole.
type Rebuild struct {
	Records     int           // folded before the loss
	Invocations int           // of fire, until everything was back
	PeakRSS     int64         // bytes: VmHWM of the process
	Took        time.Duration // of these invocations
	verdict     verdict
}

// rebuild folds n records, takes all state away, and lets fire bring it back, in parts if the deadline of its invocations is
// short; then all windows are closed and their results judged.
func rebuild(ctx context.Context, l *lab, n int, deadline time.Duration) (r Rebuild, err error) {
	s, err := newStage(ctx, l, "rebuild-"+strconv.FormatInt(time.Now().UnixMilli(), 36), 1, []query{large}, deadline)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.close(context.WithoutCancel(ctx))) }()
	s.input.step, s.input.keys = event.Span(24*3600*1000/n), 2000
	store, err := redisstore.Open(ctx, redisstore.Options{URLs: []string{"redis://" + l.stores.primary.address}})
	if err != nil {
		return r, err
	}
	defer store.Close() //nolint:errcheck // only read from
	s.say("rebuild: folding %d records", n)
	if err := s.fold(ctx, n); err != nil {
		return r, err
	}
	before, err := applied(ctx, store)
	if err != nil {
		return r, err
	}
	if err := s.stores.primary.client.FlushAll(ctx).Err(); err != nil {
		return r, fmt.Errorf("rebuild: %w", err)
	}
	s.recycle("fire-a") // a process of its own, so that its memory is that of the rebuild
	r.Records = n
	began := time.Now()
	for at, idle := int64(0), 0; at < before; {
		if r.Invocations++; r.Invocations > maxInvocations {
			return r, fmt.Errorf("rebuild: %d of %d records are back after %d invocations", at, before, maxInvocations)
		}
		now, err := s.part(ctx, store, &r)
		if err != nil {
			return r, err
		}
		// The first one has a cold start in its time.
		if idle++; now > at {
			idle = 0
		}
		if idle > 1 || now < at {
			r.verdict.account(0, 0, "rebuild: invocation %d brought nothing back: %d of %d records after %d", r.Invocations, now, before, at)
			return r, nil
		}
		at = now
		s.say("rebuild: %d of %d records are back after %d invocations, %.1f s", at, before, r.Invocations, time.Since(began).Seconds())
	}
	r.Took = time.Since(began)
	if n >= 1_000_000 && r.Invocations < rebuildParts {
		r.verdict.account(0, 0, "rebuild: everything came back in %d invocations, want %d parts at least: give a shorter deadline, or more records", r.Invocations, rebuildParts)
	}
	if r.PeakRSS > maxRSS {
		r.verdict.account(0, 0, "rebuild: the process took %d MB, at most %d are allowed", r.PeakRSS>>20, maxRSS>>20)
	}
	return r, s.settle(ctx, &r)
}

// part is one invocation of fire.
func (s *stage) part(ctx context.Context, store statestore.Store, r *Rebuild) (at int64, err error) {
	began := time.Now()
	if _, err := s.fireOnce(ctx); err != nil {
		return 0, err
	}
	if took := time.Since(began); took > s.deadline {
		r.verdict.account(0, 0, "rebuild: invocation %d took %s, its deadline was %s", r.Invocations, took, s.deadline)
	}
	rss, err := peakRSS(s.named["fire-a"].function().Pid())
	if err != nil {
		return 0, err
	}
	r.PeakRSS = max(r.PeakRSS, rss)
	return applied(ctx, store)
}

func (s *stage) fireOnce(ctx context.Context) ([]byte, error) {
	limit, cancel := context.WithTimeout(ctx, s.deadline+20*time.Second)
	defer cancel()
	answer, err := s.named["fire-a"].function().Invoke(limit, []byte(`{"source":"aws.scheduler"}`))
	if err != nil {
		return nil, fmt.Errorf("fire: %w\n%s", err, end(s.named["fire-a"].function().Log()))
	}
	return answer, nil
}

// fold produces n records and delivers all of them.
func (s *stage) fold(ctx context.Context, n int) error {
	for done := 0; done < n; {
		part := min(n-done, 10_000)
		if err := s.input.produce(ctx, part); err != nil {
			return err
		}
		done += part
	}
	if _, err := s.fireOnce(ctx); err != nil { // the genesis
		return err
	}
	return s.deliverAll(ctx)
}

// deliverAll delivers what there is.
func (s *stage) deliverAll(ctx context.Context) error {
	for {
		payload, move := s.input.batch(perPayload)
		if payload == nil {
			return s.input.commit(ctx, s.admin)
		}
		answer, err := s.named["ingest-a"].function().Invoke(ctx, payload)
		if err != nil {
			return fmt.Errorf("ingest: %w", err)
		}
		failed, err := failures(answer)
		if err != nil {
			return err
		}
		if failed > 0 {
			return fmt.Errorf("ingest answered %d records as failed: %s", failed, end(s.named["ingest-a"].function().Log()))
		}
		move()
	}
}

// settle closes all windows, and judges what came out.
func (s *stage) settle(ctx context.Context, r *Rebuild) error {
	closed, err := s.input.finish(ctx, event.Span(large.bound))
	if err != nil {
		return err
	}
	if err := s.deliverAll(ctx); err != nil {
		return err
	}
	// A plan is not divided: what closes everything takes the time of an ordinary invocation.
	s.undeploy()
	if err := s.deployAll(fireTimeout); err != nil {
		return err
	}
	for range maxInvocations {
		if _, err := s.fireOnce(ctx); err != nil {
			return err
		}
		out, err := s.reader.drain(ctx)
		if err != nil {
			return err
		}
		done := true
		for _, at := range s.reader.plans() {
			done = done && at.watermark >= closed
		}
		if done {
			v := judge(s.app, s.input.events, s.input.dead, out)
			s.say("rebuild: %d records, %d panes: %d lost, %d doubled", v.records, v.panes, v.lost, v.doubled)
			r.verdict.add(v)
			return nil
		}
	}
	return fmt.Errorf("%w: the windows do not close after the rebuild", errStuck)
}

// applied is how many offsets the slots have, over all partitions.
func applied(ctx context.Context, store statestore.Store) (sum int64, err error) {
	slots, err := store.Slots(ctx, "")
	if err != nil {
		return 0, err
	}
	for _, slot := range slots {
		meta, err := store.Load(ctx, slot)
		if err != nil {
			return 0, err
		}
		sum += meta.Applied
	}
	return sum, nil
}

// peakRSS reads the most memory that a process has had, in bytes.
func peakRSS(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("memory of process %d: %w", pid, err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("memory of process %d: no VmHWM", pid)
}
