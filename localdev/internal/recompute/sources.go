package recompute

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sort"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/window"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
)

// stretch is the part of a source partition that is read again.
type stretch struct {
	event.TopicPartition
	*past
	from, to int64

	// Fences do not go down. So a record that was taken bounds those of all before it: limits of ascending offsets, and ascending.
	limits []limit
}

// limit says that the fence was at most most up to an offset.
type limit struct {
	offset int64
	most   event.Time
}

// bound notes that the record at an offset, beyond all noted before, was judged by a fence of at most most.
func (s *stretch) bound(offset int64, most event.Time) {
	n := len(s.limits)
	for n > 0 && s.limits[n-1].most >= most {
		n--
	}
	s.limits = append(s.limits[:n], limit{offset, most})
}

// most is the largest that the fence was at an offset.
func (s *stretch) most(offset int64) event.Time {
	i := sort.Search(len(s.limits), func(i int) bool { return s.limits[i].offset >= offset })
	if i == len(s.limits) {
		return event.MaxTime
	}
	return s.limits[i].most
}

// plan decides which offsets are read, and which windows are whole in them.
func (j *job) plan(ctx context.Context) error {
	parts, err := j.Log.Partitions(ctx, j.pipe.Topics)
	if err != nil {
		return err
	}
	slices.SortFunc(parts, func(a, b kafkaio.Partition) int { // as the first and the last of equal times are decided
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	tps := make([]event.TopicPartition, len(parts))
	for i, p := range parts {
		tps[i] = p.TopicPartition
	}
	offsets, err := j.Log.Offsets(ctx, tps)
	if err != nil {
		return err
	}
	j.before, j.until = event.MinTime, j.To
	if j.From != event.MinTime {
		j.before = j.From - 1
	}
	if !j.past.whole {
		j.out.leaveOut("what was before plan %d: the ledger begins there, and by which watermarks records were judged before is not known any more", j.past.begins)
	}
	if j.past.takesOver != "" {
		j.out.leaveOut("windows that ended by %s: %s had them, from which this pipeline took over with plan %d", j.past.beginsW, j.past.takesOver, j.past.begins)
	}
	if j.past.endedBy != "" {
		j.out.leaveOut("windows that end after %s: %s has them, which took over after plan %d", j.past.watermark, j.past.endedBy, j.past.plan)
	}
	for _, tp := range tps {
		p := j.past.parts[tp]
		if p == nil {
			continue // no plan has it yet
		}
		j.stretch(tp, p, offsets[tp])
	}
	return nil
}

func (j *job) stretch(tp event.TopicPartition, p *past, o kafkaio.Offsets) {
	s := &stretch{TopicPartition: tp, past: p, from: p.replayFrom, to: p.newest().offset}
	missing := event.MinTime // records up to this time may be missing
	if !j.past.whole {
		missing = p.steps[0].maxTime
	}
	if o.Start > s.from {
		missing = event.MaxTime
		for i := range p.steps {
			if p.steps[i].offset >= o.Start {
				missing = p.steps[i].maxTime
				break
			}
		}
		if p.base < p.replayFrom || o.Start > p.base || p.replayFrom == p.base {
			j.out.leaveOut("windows that begin by %s: the log of %s/%d begins at offset %d, and offsets from %d on would be needed", missing, tp.Topic, tp.Partition, o.Start, s.from)
		}
		s.from = o.Start
	}
	j.before = max(j.before, missing)
	for _, t := range p.steps { // nothing below has a time that is asked for
		if t.maxTime < j.From && t.offset > s.from && t.offset >= p.base {
			s.from = t.offset
		}
	}
	if j.To != event.MaxTime {
		longest := event.Span(0)
		for i := range j.pipe.Windows {
			longest = max(longest, j.pipe.Windows[i].Lateness)
		}
		for _, t := range p.steps { // whatever comes later is too late
			if t.to > j.To.Add(longest) {
				s.to = min(s.to, t.offset)
				break
			}
		}
	}
	s.from = min(s.from, s.to)
	j.sources = append(j.sources, s)
	j.out.Sources = append(j.out.Sources, Source{tp.Topic, tp.Partition, s.from, s.to})
}

// judge reads the records of one stretch again.
type judge struct {
	*job
	part    int
	at      *stretch
	reader  *pipeline.Reader
	peers   []*pipeline.Reader // of pipelines whose dead letters are in the same topic
	sides   *sideCursor
	records *sorter
	fence   event.Time // the largest that a late record named so far
	largest event.Time // event time so far
	key     []byte
	value   []byte
}

// readSources reads the source topics, compares their late and failed records with those published, and puts the others into
// records, sorted by key and time.
func (j *job) readSources(ctx context.Context, sides, records *sorter) error {
	cur, err := newSideCursor(sides)
	if err != nil {
		return err
	}
	var done, of int64
	for _, s := range j.sources {
		of += s.to - s.from
	}
	tell := j.tell("source topics")
	for part, s := range j.sources {
		g := judge{job: j, part: part, at: s, reader: j.pipe.NewReader(), peers: j.peers(s.Topic), sides: cur, records: records, fence: event.MinTime, largest: s.largest(s.from)}
		if s.from < s.to {
			err := j.Log.Read(ctx, s.TopicPartition, s.from, s.to, func(recs []event.Record, next int64) error {
				for i := range recs {
					if err := g.record(&recs[i]); err != nil {
						return err
					}
				}
				done += int64(len(recs))
				tell(done, of)
				return nil
			})
			if err != nil {
				return fmt.Errorf("source topics: %w", err)
			}
		}
		if err := g.rest(math.MaxInt64); err != nil {
			return err
		}
	}
	return nil
}

// peers are readers of the other pipelines of the app whose failed records of a topic go where ours do.
func (j *job) peers(topic string) []*pipeline.Reader {
	var out []*pipeline.Reader
	for i := range j.App.Pipelines {
		q := &j.App.Pipelines[i]
		if q.Name == j.pipe.Name || q.DeadLetterTopic != j.pipe.DeadLetterTopic {
			continue
		}
		for _, t := range q.Topics {
			if t != topic {
				continue
			}
			if p, err := pipeline.Compile(*q); err == nil {
				out = append(out, p.NewReader())
			}
		}
	}
	return out
}

// rest are published side records of offsets below next at which the log has no record.
func (g *judge) rest(next int64) error {
	for {
		got, err := g.sides.below(g.part, next)
		if err != nil || got == nil {
			return err
		}
		if got.offset >= g.at.from && got.offset < g.at.to && got.offset >= g.at.base && !g.notOurs(got) {
			g.foreign(got, "the log has no record at that offset")
		}
	}
}

// notOurs reports whether a side record was not published by the plan that has its offset: then it is another pipeline's. Without
// transactions attempts have numbers of their own.
func (g *judge) notOurs(got *side) bool {
	by, _ := g.at.judged(got.offset)
	return got.plan != by.plan && !g.past.atOnce
}

func (g *judge) foreign(got *side, note string) {
	g.out.differ(g.Most, &Difference{What: Foreign, Note: fmt.Sprintf("%s, %s", got.reason, note), Records: g.where(got.offset), At: &got.at})
}

func (g *judge) where(offset int64) []Range {
	return []Range{{Topic: g.at.Topic, Partition: g.at.Partition, First: offset, Last: offset, N: 1}}
}

// record judges one record.
func (g *judge) record(rec *event.Record) error {
	if err := g.rest(rec.Offset); err != nil {
		return err
	}
	g.out.Records++
	got, err := g.sides.of(g.part, rec.Offset)
	if err != nil {
		return err
	}
	reading := g.reader.Read(rec)
	if rec.Offset < g.at.base { // read for what is open after a hand-over; its side records are the other pipeline's
		if reading.Reason == "" && !reading.Filtered {
			w := g.at.steps[0].from
			return g.keep(rec.Offset, &reading, bounds{w, w, w})
		}
		return nil
	}
	ours := got[:0]
	for _, s := range got {
		if !g.notOurs(&s) {
			ours = append(ours, s)
		}
	}
	if reading.Reason != "" {
		g.failed(rec, &reading, ours)
		return nil
	}
	if reading.Filtered {
		g.filtered(rec, &reading, ours)
		return nil
	}
	return g.processed(rec, &reading, ours)
}

// filtered is a record that does not count: it is in no topic, and its time moves the watermark.
func (g *judge) filtered(rec *event.Record, reading *pipeline.Reading, got []side) {
	g.largest = max(g.largest, reading.Time)
	for i := range got {
		if g.peersMean(rec, &got[i]) == 0 {
			g.foreign(&got[i], "where is false for the record")
		}
	}
}

// failed is a record that cannot be processed: it is in the dead letter topic, once, unless the policy is to skip it.
func (g *judge) failed(rec *event.Record, reading *pipeline.Reading, got []side) {
	want := reading.Reason
	if g.pipe.Policy == spec.PolicySkip {
		want = ""
	}
	found := false
	others := 0 // published by a peer, for the same reason
	for i := range got {
		s := &got[i]
		switch {
		case want != "" && s.means(want) && found:
			if others++; others > g.peersMean(rec, s) {
				g.again(s)
			}
		case want != "" && s.means(want):
			found = true
			g.out.DeadLetters++
		case g.peersMean(rec, s) > 0:
		case want == "":
			g.foreign(s, "failed records are skipped: "+reading.Detail)
		case !found:
			found = true
			g.out.differ(g.Most, &Difference{
				What: Reason, Values: []Value{{"reason", string(s.reason), string(want)}}, Note: reading.Detail, Records: g.where(rec.Offset), At: &s.at,
			})
		default:
			g.foreign(s, "it is there for its right reason, too")
		}
	}
	if want != "" && !found {
		g.out.differ(g.Most, &Difference{What: DeadMissing, Values: []Value{{"reason", "", string(want)}}, Note: reading.Detail, Records: g.where(rec.Offset)})
	}
}

// again is a side record that was there before. Where there are no transactions that is what an attempt that died leaves.
func (g *judge) again(s *side) {
	if !g.past.atOnce {
		g.out.differ(g.Most, &Difference{What: Twice, Note: string(s.reason), Records: g.where(s.offset), At: &s.at})
	}
}

// peersMean is how many peers have the record in the topic for the reason that a side record gives.
func (g *judge) peersMean(rec *event.Record, s *side) (n int) {
	for _, p := range g.peers {
		if r := p.Read(rec); r.Reason != "" && s.means(r.Reason) {
			n++
		}
	}
	return n
}

// bounds are what is known of the fence that a record was judged by.
type bounds struct {
	final event.Time // watermark of the plan before: windows that were final with it are not published again
	lo    event.Time // it was not below, nor is that below final
	hi    event.Time // nor above
}

// bounds returns what is known before the late topic was looked at. A fence is a low watermark, which does not pass that of the
// partition itself unless it is idle; where the plan that has the record has not passed it, no attempt before it is taken to have.
func (g *judge) bounds(by *step, final event.Time) bounds {
	b := bounds{final: final, lo: max(final, min(g.fence, by.from)), hi: by.from}
	behind := -g.pipe.Watermark.MaxOutOfOrder
	if by.from <= by.maxTime.Add(behind) {
		b.hi = min(b.hi, max(b.lo, g.largest.Add(behind)))
	}
	return b
}

// processed is a record that was read: it is late for all windows, or in some.
func (g *judge) processed(rec *event.Record, reading *pipeline.Reading, got []side) error {
	by, final := g.at.judged(rec.Offset)
	b := g.bounds(by, final)
	g.largest = max(g.largest, reading.Time)
	last := event.MinTime // from this fence on no window takes it
	for i := range g.pipe.Windows {
		last = max(last, refusedFrom(&g.pipe.Windows[i], reading.Time))
	}
	var late *side
	for i := range got {
		s := &got[i]
		switch {
		case s.reason == event.ReasonLate && late == nil:
			late = s
		case s.reason == event.ReasonLate:
			g.again(s)
		case g.peersMean(rec, s) > 0:
		default:
			g.out.differ(g.Most, &Difference{
				What: Reason, Values: []Value{{"reason", string(s.reason), "none"}}, Note: "the record can be read, and belongs into results or the late topic", Records: g.where(rec.Offset), At: &s.at,
			})
		}
	}
	switch {
	case last == event.MinTime && late != nil, late != nil && by.from < last:
		g.out.differ(g.Most, &Difference{
			What: Foreign, Note: fmt.Sprintf("late, but its windows took records until the watermark %s, and it was at most %s", last, by.from), Records: g.where(rec.Offset), At: &late.at,
		})
	case last == event.MinTime:
		return nil // in no window
	case late != nil:
		g.out.Late++
		if least := max(b.final, last); late.fence < least || late.fence > by.from {
			g.out.differ(g.Most, &Difference{
				What: Fence, Values: []Value{{"tidemark-watermark", late.fence.String(), "from " + least.String() + " to " + by.from.String()}}, Records: g.where(rec.Offset), At: &late.at,
			})
		} else {
			g.fence = max(g.fence, late.fence)
		}
		return nil
	case last <= b.lo:
		g.out.differ(g.Most, &Difference{
			What: LateMissing, Note: fmt.Sprintf("its time is %s, its last window took records until the watermark %s, which was at %s", reading.Time, last, b.lo), Records: g.where(rec.Offset),
		})
		return nil
	case last <= b.hi:
		g.at.bound(rec.Offset, last-1)
	}
	return g.keep(rec.Offset, reading, b)
}

// refusedFrom is the least fence under which no window of a definition takes a record any more; event.MinTime if it is in none.
func refusedFrom(d *window.Definition, t event.Time) event.Time {
	switch d.Kind {
	case window.KindSession:
		return t.Add(d.Lateness).Add(1)
	case window.KindGlobal:
		return event.MaxTime
	case window.KindTumbling, window.KindSliding, window.KindCumulate:
	}
	all := windowsOf(d, t)
	if len(all) == 0 {
		return event.MinTime
	}
	return all[len(all)-1].End.Add(d.Lateness)
}

// windowsOf lists the windows of a time by trying every start near it, and every end of the start, in their order. Sessions and
// global windows have none of their own.
func windowsOf(d *window.Definition, t event.Time) []window.Window {
	step := d.Size
	switch d.Kind {
	case window.KindSession, window.KindGlobal:
		return nil
	case window.KindCumulate:
		var out []window.Window
		for s, n := t.Floor(d.Size, d.Offset), d.Step; n <= d.Size; n += d.Step {
			if w := (window.Window{Start: s, End: s.Add(n)}); w.Contains(t) {
				out = append(out, w)
			}
		}
		return out
	case window.KindTumbling:
	case window.KindSliding:
		step = d.Slide
	}
	var out []window.Window
	for s := t.Floor(step, d.Offset); ; s = s.Add(-step) {
		w := window.Window{Start: s, End: s.Add(d.Size)}
		if !w.Contains(t) {
			break
		}
		out = append([]window.Window{w}, out...)
	}
	return out
}

// keep puts a record where the windows find it: by key and time.
func (g *judge) keep(offset int64, reading *pipeline.Reading, b bounds) error {
	if reading.Time <= g.before || reading.Time > g.until {
		return nil
	}
	g.key = appendText(g.key[:0], reading.Key)
	g.key = appendInt(g.key, int64(reading.Time))
	g.key = appendInt(g.key, int64(g.part))
	g.key = appendInt(g.key, offset)
	g.value = g.value[:0]
	for _, t := range [...]event.Time{b.final, b.lo, b.hi} {
		g.value = binary.LittleEndian.AppendUint64(g.value, uint64(t))
	}
	for i, gap := range reading.Gaps {
		if g.pipe.Windows[i].GapField != "" {
			g.value = binary.AppendUvarint(g.value, uint64(gap))
		}
	}
	for i := range reading.Values {
		g.value = appendScalar(g.value, &reading.Values[i], reading.Has[i])
	}
	return g.records.add(g.key, g.value)
}

// member is a record as windows see it.
type member struct {
	time   event.Time
	bounds // of the fence that it was judged by
	part   int
	offset int64
	gap    event.Span // of a session
	values []scalar
}

// decode reads what keep has written, behind the key.
func (c *comparison) decode(key, value []byte) member {
	m := member{gap: c.def.Gap}
	var part int64
	m.time, key = cutTime(key)
	part, key = cutInt(key)
	m.part = int(part)
	m.offset, _ = cutInt(key)
	for _, t := range []*event.Time{&m.final, &m.lo, &m.hi} {
		*t = event.Time(binary.LittleEndian.Uint64(value))
		value = value[8:]
	}
	for i := range c.pipe.Windows {
		if d := &c.pipe.Windows[i]; d.GapField != "" {
			gap, n := binary.Uvarint(value)
			if value = value[n:]; d == c.def {
				m.gap = event.Span(gap)
			}
		}
	}
	for len(value) > 0 {
		var v scalar
		v, value = cutScalar(value)
		m.values = append(m.values, v)
	}
	return m
}

// size is about what the member takes in memory.
func (m *member) size() int64 {
	n := int64(perMember)
	for i := range m.values {
		n += perScalar + int64(len(m.values[i].text))
	}
	return n
}
