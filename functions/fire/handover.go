package fire

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
)

// kin is a pipeline of the same app and name with another fingerprint, known by its group.
type kin struct {
	group string
	plan  *apply.Plan // nil: a transaction in flight keeps it from being read
}

// kinPrefix is how the groups of all pipelines of the app and name begin; what follows is the fingerprint.
func (r *runner) kinPrefix() string { return strings.TrimSuffix(r.pipe.Group(), r.pipe.Fingerprint()) }

// fingerprintLen is the length of a fingerprint: lower-case hexadecimal digits.
const fingerprintLen = 16

// isFingerprint tells the group of a kin from that of a pipeline whose name goes on with a dot, and from that of a shard.
func isFingerprint(s string) bool {
	return len(s) == fingerprintLen && strings.Trim(s, "0123456789abcdef") == ""
}

// kin lists the pipelines of the same app and name that have a plan, by group. It waits only for a moment for plans that a
// transaction in flight keeps from being read.
func (r *runner) kin(ctx context.Context) ([]kin, error) {
	prefix := r.kinPrefix()
	groups, err := r.Log.Groups(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("pipelines of the same name: %w", err)
	}
	var out []kin
	for _, g := range groups {
		if g == r.pipe.Group() || !isFingerprint(g[len(prefix):]) {
			continue
		}
		short, cancel := look(ctx)
		plan, err := apply.ReadGroup(short, r.Log, g)
		waited := short.Err() != nil && ctx.Err() == nil
		cancel()
		switch {
		case err != nil && waited:
			out = append(out, kin{group: g})
		case err != nil:
			return nil, err
		case len(plan.Partitions) > 0:
			out = append(out, kin{g, plan})
		}
	}
	return out, nil
}

// settleKin ends what transactions of the kin are in flight: a firer of this pipeline may have died in its hand-over, which has
// the transactional id of the pipeline before.
func (r *runner) settleKin(ctx context.Context) error {
	prefix := r.kinPrefix()
	groups, err := r.Log.Groups(ctx, prefix)
	if err != nil {
		return fmt.Errorf("pipelines of the same name: %w", err)
	}
	for _, g := range groups {
		if g == r.pipe.Group() || !isFingerprint(g[len(prefix):]) {
			continue
		}
		s, err := r.Publisher.Open(ctx, g)
		if err != nil {
			return fmt.Errorf("settle transactions of %s: %w", g, err)
		}
		s.Close()
	}
	return errAgain
}

// alive returns the kin that have not ended, as far as can be seen.
func alive(all []kin) []kin {
	return slices.DeleteFunc(slices.Clone(all), func(k kin) bool { return k.plan != nil && k.plan.Ended })
}

// succession is the first step of a pipeline whose group is empty: it takes over if somebody is there to take over from. It
// reports whether there is nobody, so that the pipeline begins by itself.
func (r *runner) succession(ctx context.Context, all []kafkaio.Partition, req request) (bool, error) {
	relatives, err := r.kin(ctx)
	if err != nil || len(relatives) == 0 {
		return true, err
	}
	if live := alive(relatives); len(live) > 0 {
		return false, r.takeOver(ctx, all, live, req)
	}
	// All have ended, perhaps just now, by another firer of this pipeline: its genesis is there to be seen then.
	own, err := apply.ReadPlan(ctx, r.Log, r.pipe)
	if err != nil || len(own.Partitions) == 0 {
		return true, err
	}
	r.plan = nil
	return false, errAgain
}

// newest is the kin with the newest plan: the one that is gone on from.
func newest(live []kin) kin {
	return slices.MaxFunc(live, func(a, b kin) int { return cmp.Or(cmp.Compare(a.plan.At, b.plan.At), cmp.Compare(a.group, b.group)) })
}

// takeOver ends the live kin and begins the own group where the newest of them is: all of that in one transaction under the
// transactional id of the one that is gone on from, so that there is no moment between, and its firer cannot commit any more.
// It returns errAgain once the own group has begun, or something has to be read again; nil where nothing can begin yet.
func (r *runner) takeOver(ctx context.Context, all []kafkaio.Partition, live []kin, req request) error {
	settled := !slices.ContainsFunc(live, func(k kin) bool { return k.plan == nil })
	if settled {
		// A look first: who cannot go on must not fence those who still can.
		if begin, err := r.inherit(ctx, all, newest(live).plan, req); err != nil || len(begin) == 0 {
			return err
		}
	}
	if r.session == nil {
		return r.open(ctx)
	}
	r.plan = nil // whatever comes of this, the own group is read again
	held, err := r.hold(ctx, live)
	defer func() {
		for _, s := range held {
			s.Close()
		}
	}()
	if err != nil {
		return err
	}
	own, err := apply.ReadPlan(ctx, r.Log, r.pipe)
	if err != nil {
		return err
	}
	live = slices.DeleteFunc(slices.Clone(live), func(k kin) bool { return k.plan.Ended || len(k.plan.Partitions) == 0 })
	begun := len(own.Partitions) > 0 && !(own.Ended && req.nudge.TakeOver)
	if !settled || len(live) == 0 || begun {
		return errAgain // another firer was here, or there is more to be seen now
	}
	from := newest(live)
	begin, err := r.inherit(ctx, all, from.plan, req)
	if err != nil || len(begin) == 0 {
		return err
	}
	for _, k := range live {
		if k.group != from.group {
			if err := r.end(ctx, held[k.group], k); err != nil {
				return err
			}
		}
	}
	// The own session has done its part: where sessions are members of their group, nobody else could commit for it.
	r.closeSession()
	return r.succeed(ctx, held[from.group], all, from, begin)
}

// hold opens a session of every kin, which fences its firer and settles what that has in flight, and reads the plans anew. The
// order is that of the groups: two firers that do this at once cannot end one kin each in favour of the other.
func (r *runner) hold(ctx context.Context, live []kin) (map[string]kafkaio.Session, error) {
	held := map[string]kafkaio.Session{}
	for _, k := range live {
		s, err := r.Publisher.Open(ctx, k.group)
		if err != nil {
			return held, fmt.Errorf("open a session of %s: %w", k.group, err)
		}
		held[k.group] = s
	}
	for i := range live {
		plan, err := apply.ReadGroup(ctx, r.Log, live[i].group)
		if err != nil {
			return held, err
		}
		live[i].plan = plan
	}
	return held, nil
}

// ended is the watermark up to which the windows of a plan have gone out: below its own, where they are held until they are final.
func ended(plan *apply.Plan) event.Time {
	held := event.Span(0)
	for _, base := range plan.Partitions {
		held = max(held, base.Held)
	}
	if plan.Watermark == event.MinTime {
		return event.MinTime
	}
	return plan.Watermark.Add(-held)
}

// inherit says where every partition begins: with the offset of the old plan, replayed from where the new query needs it; a
// partition that the old plan lacks as in any genesis.
func (r *runner) inherit(ctx context.Context, all []kafkaio.Partition, old *apply.Plan, req request) ([]start, error) {
	var missing []kafkaio.Partition
	var begin []start
	var tps []event.TopicPartition
	for _, p := range all {
		base, ok := old.Partitions[p.TopicPartition]
		if !ok {
			missing = append(missing, p)
			continue
		}
		if base.TopicID != p.TopicID {
			return nil, halted("%s/%d: the topic was deleted and made anew since plan %d of the pipeline to take over from; its offsets mean "+
				"other records now; start a new pipeline under another name", p.Topic, p.TopicPartition.Partition, old.Number)
		}
		tps = append(tps, p.TopicPartition)
		begin = append(begin, start{Partition: p, offset: base.Offset, takenOver: true, replayFrom: base.ReplayFrom, maxTime: base.MaxTime})
	}
	if len(tps) > 0 {
		if err := r.replayFrom(ctx, begin, tps, ended(old), req); err != nil {
			return nil, err
		}
	}
	more, err := r.starts(ctx, missing, req)
	return append(begin, more...), err
}

// replayFrom lowers the offsets from which slots are folded to where the windows that are open at w begin, but not below the
// start of the log.
func (r *runner) replayFrom(ctx context.Context, begin []start, tps []event.TopicPartition, w event.Time, req request) error {
	bounds, err := r.Log.Offsets(ctx, tps)
	if err != nil {
		return fmt.Errorf("bounds of the log: %w", err)
	}
	var at map[event.TopicPartition]int64
	reach := r.pipe.Reach(w)
	if w != event.MinTime { // before the first plan nothing lies below what the old pipeline began with
		if at, err = r.Log.OffsetsAt(ctx, tps, reach); err != nil {
			return fmt.Errorf("offsets at %s: %w", reach, err)
		}
	}
	for i := range begin {
		s, first := &begin[i], bounds[begin[i].TopicPartition].Start
		if s.replayFrom < first && !req.nudge.TakeOver {
			return halted("%s/%d: open windows of the pipeline to take over from begin at offset %d, but the log begins at %d: the changed query "+
				"cannot fold them whole. Go back to the spec before until they have closed, or invoke fire with {\"takeover\": true}, or "+
				"`tidemark run --take-over`, to do without these records", s.Topic, s.TopicPartition.Partition, s.replayFrom, first)
		}
		if o, ok := at[s.TopicPartition]; ok {
			s.truncated = first > 0 && o <= first && reach != event.MinTime
			s.replayFrom = min(s.replayFrom, o)
		}
		s.truncated = s.truncated || s.replayFrom < first
		s.replayFrom = min(max(s.replayFrom, first), s.offset) // a log that begins above the offset halts the next look
	}
	return nil
}

// succeed is the transaction of the hand-over: the old group ends, the own one begins.
func (r *runner) succeed(ctx context.Context, s kafkaio.Session, all []kafkaio.Partition, from kin, begin []start) error {
	// What an earlier life of this spec has left must not be taken for a fold of the new one.
	for _, p := range all {
		if err := r.Store.Drop(ctx, apply.SlotID(r.pipe, p)); err != nil {
			return fmt.Errorf("hand-over: drop old state: %w", err)
		}
	}
	since := *from.plan
	since.Watermark = ended(from.plan)
	next, offsets, record, err := r.begin(begin, &since, "hand-over", from.group)
	if err != nil {
		return err
	}
	last, lastRecord, err := r.ending(ctx, from, next.At)
	if err != nil {
		return err
	}
	// The own group first: where the offsets of two groups are not one transaction, a pipeline that goes on beside its successor
	// publishes twice, but one that has ended without a successor would begin anew.
	groups := []groupOffsets{{r.pipe.Group(), offsets}, {from.group, last}}
	if err := transact(ctx, s, []kafkaio.Message{record, lastRecord}, groups...); err != nil {
		return fmt.Errorf("hand-over from %s: %w", from.group, err)
	}
	// Not an everyday thing: from here on windows are those of another query.
	r.Logger.WarnContext(ctx, "took over from a pipeline of the same name", "pipeline", r.pipe.Name, "group", r.pipe.Group(), "from", from.group,
		"plan", next.Number, "watermark", next.Watermark.String(), "partitions", len(begin))
	for i := range begin {
		if b := &begin[i]; b.truncated {
			r.Logger.WarnContext(ctx, "the log begins where the replay of open windows has to: they lack what retention removed before", "pipeline",
				r.pipe.Name, "topic", b.Topic, "partition", b.TopicPartition.Partition, "replay_from", b.replayFrom)
		}
	}
	return errAgain
}

// end commits, in a transaction of its own, that a kin has ended.
func (r *runner) end(ctx context.Context, s kafkaio.Session, k kin) error {
	offsets, record, err := r.ending(ctx, k, r.Clock())
	if err != nil {
		return err
	}
	if err := transact(ctx, s, []kafkaio.Message{record}, groupOffsets{k.group, offsets}); err != nil {
		return fmt.Errorf("end of %s: %w", k.group, err)
	}
	r.Logger.InfoContext(ctx, "ended an older pipeline of the same name", "pipeline", r.pipe.Name, "group", k.group)
	return nil
}

// ending returns the offsets of a kin as they are, with metadata that says that it ended, and the record for the ledger.
// Partitions of topics that are no more are left out, as brokers forget them.
func (r *runner) ending(ctx context.Context, k kin, at event.Time) ([]kafkaio.OffsetCommit, kafkaio.Message, error) {
	there, err := r.existing(ctx, k.plan)
	if err != nil {
		return nil, kafkaio.Message{}, err
	}
	entries := make([]ledgerPartition, 0, len(there))
	offsets := make([]kafkaio.OffsetCommit, 0, len(there))
	for _, p := range there {
		b := k.plan.Partitions[p.TopicPartition]
		b.Ended, b.At = true, at
		meta := pipeline.AppendCommitment(nil, &b.Commitment)
		if len(meta) > pipeline.MaxMetadata { // the time takes another byte; and nobody restores what has ended
			b.Refused = nil
			meta = pipeline.AppendCommitment(nil, &b.Commitment)
		}
		e := newLedgerPartition(p.TopicPartition, b, 0)
		e.Open = e.unaccounted()
		entries = append(entries, e)
		offsets = append(offsets, kafkaio.OffsetCommit{Partition: p, Committed: kafkaio.Committed{Offset: b.Offset, Metadata: string(meta)}})
	}
	e := ledgerEntry{
		Fingerprint: k.group[len(r.kinPrefix()):], Plan: k.plan.Number, WatermarkMS: millis(k.plan.Watermark), HeldBy: "ended", Partitions: entries,
	}
	if k.group != r.pipe.Group() {
		e.EndedBy = r.pipe.Group()
	}
	record, err := r.ledgerMessage(at, e)
	return offsets, record, err
}

// existing lists the partitions of a plan whose topic is still the one that the plan means.
func (r *runner) existing(ctx context.Context, plan *apply.Plan) ([]kafkaio.Partition, error) {
	topics := map[string]bool{}
	for tp := range plan.Partitions {
		topics[tp.Topic] = true
	}
	var out []kafkaio.Partition
	for _, topic := range slices.Sorted(maps.Keys(topics)) {
		parts, err := r.Log.Partitions(ctx, []string{topic})
		if errors.Is(err, kafkaio.ErrUnknownTopic) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("partitions of a pipeline that ends: %w", err)
		}
		for _, p := range parts {
			if b, ok := plan.Partitions[p.TopicPartition]; ok && b.TopicID == p.TopicID {
				out = append(out, p)
			}
		}
	}
	return out, nil
}
