package recompute

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// perMember is about what a member takes in memory beside its values.
const perMember = 104

// comparison is of one window definition: the records by key and time on one side, the panes by key and window on the other.
type comparison struct {
	*job
	def     *window.Definition
	query   query
	oldest  int64 // results of older plans may be gone
	records *cursor
	panes   *paneCursor

	// The members of the present key from the beginning of its oldest open window on.
	key      []byte
	members  []member
	open     []aligned
	reach    event.Time // of sessions: where the gaps of all members have passed
	bytes    int64
	unending unending
}

// aligned is an open tumbling or sliding window.
type aligned struct {
	window.Window
	from int // index of its first member
}

func (j *job) compare(def int, records, panes *sorter, oldest int64) error {
	q, err := newQuery(&j.pipe.Pipeline)
	if err != nil {
		return err
	}
	c := &comparison{job: j, def: &j.pipe.Windows[def], query: q, oldest: oldest}
	if j.pipe.Accumulation == spec.Discarding && c.def.Kind != window.KindGlobal {
		q.parts()
	}
	if c.records, err = records.cursor(); err != nil {
		return err
	}
	if c.panes, err = newPaneCursor(panes, def); err != nil {
		return err
	}
	for {
		key, value, ok, err := c.records.next()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		text, rest := cutText(key)
		if !bytes.Equal(text, c.key) || c.key == nil {
			if err := c.endKey(); err != nil {
				return err
			}
			c.key = append([]byte{}, text...)
		}
		m := c.decode(rest, value)
		m.hi = max(m.lo, min(m.hi, c.sources[m.part].most(m.offset)))
		if err := c.member(m); err != nil {
			return err
		}
	}
	if err := c.endKey(); err != nil {
		return err
	}
	for c.panes.next != nil {
		if err := c.superfluous(); err != nil {
			return err
		}
	}
	if u := &c.unending; u.keys > 0 {
		j.out.leaveOut("windows %s: %d keys with more records than fit into memory, the first is %q", c.def.Name, u.keys, u.first)
	}
	if u := &c.unending; u.panes > 0 {
		j.out.leaveOut("windows %s: results of %d early panes: each has all records before it, and to compute them all takes too long; when they went out, their indexes and what they replace are compared, and the last pane of each key", c.def.Name, u.panes)
	}
	return nil
}

// member takes the next record of the present key.
func (c *comparison) member(m member) error {
	switch c.def.Kind {
	case window.KindSession:
		if len(c.members) > 0 && m.time >= c.reach {
			if err := c.sessions(); err != nil {
				return err
			}
		}
		c.reach = max(c.reach, m.time.Add(m.gap))
		return c.hold(m)
	case window.KindGlobal:
		c.holdForever(m)
		return nil
	case window.KindTumbling, window.KindSliding, window.KindCumulate:
	}
	if err := c.close(m.time); err != nil {
		return err
	}
	var last window.Window
	if n := len(c.open); n > 0 {
		last = c.open[n-1].Window
	}
	for _, w := range windowsOf(c.def, m.time) {
		known := len(c.open) > 0 && (w.Start < last.Start || w.Start == last.Start && w.End <= last.End)
		if w.Start > c.before && w.End <= c.until && w.End <= c.past.watermark && !known {
			c.open = append(c.open, aligned{w, len(c.members)})
		}
	}
	if len(c.open) == 0 {
		return nil
	}
	return c.hold(m)
}

func (c *comparison) hold(m member) error {
	c.bytes += m.size()
	if c.bytes > c.Memory/4 {
		return fmt.Errorf("%w: %s, key %q has more than %d records in open windows at %s", ErrMemory, c.def.Name, c.key, len(c.members), m.time)
	}
	c.members = append(c.members, m)
	return nil
}

// close compares the windows that end at or before a time, and lets go of members that no other needs.
func (c *comparison) close(at event.Time) error {
	for len(c.open) > 0 && c.open[0].End <= at {
		w := c.open[0]
		to := len(c.members)
		for to > w.from && c.members[to-1].time >= w.End {
			to--
		}
		if err := c.window(w.Window, c.members[w.from:to]); err != nil {
			return err
		}
		c.open = c.open[1:]
	}
	from := len(c.members)
	if len(c.open) > 0 {
		from = c.open[0].from
	}
	if from == 0 {
		return nil
	}
	for i := range c.members[:from] {
		c.bytes -= c.members[i].size()
	}
	c.members = slices.Delete(c.members, 0, from)
	for i := range c.open {
		c.open[i].from -= from
	}
	return nil
}

func (c *comparison) endKey() error {
	if c.key == nil {
		return nil
	}
	switch c.def.Kind {
	case window.KindSession:
		return c.sessions()
	case window.KindGlobal:
		return c.everAfter()
	case window.KindTumbling, window.KindSliding, window.KindCumulate:
	}
	return c.close(event.MaxTime)
}

// ranges says where members are.
func (c *comparison) ranges(members []member) []Range {
	byPart := map[int]*Range{}
	for i := range members {
		m := &members[i]
		r := byPart[m.part]
		if r == nil {
			s := c.sources[m.part]
			r = &Range{Topic: s.Topic, Partition: s.Partition, First: m.offset, Last: m.offset}
			byPart[m.part] = r
		}
		r.First, r.Last = min(r.First, m.offset), max(r.Last, m.offset)
		r.N++
	}
	var out []Range
	for i := range c.sources {
		if r := byPart[i]; r != nil {
			out = append(out, *r)
		}
	}
	return out
}

func (c *comparison) difference(what string, key []byte, w window.Window) *Difference {
	return &Difference{What: what, Window: c.def.Name, Start: w.Start.String(), End: w.End.String(), Key: string(key)}
}

// expected reports whether a window with these records has to be in the result topic, and since which plan at the latest.
func (c *comparison) expected(w window.Window, members []member) (plan int64, ok bool) {
	gained := c.past.takesOver == "" || w.End > c.past.beginsW
	plan = 0
	for i := range members {
		s := c.sources[members[i].part]
		if members[i].offset < s.base {
			continue
		}
		gained = true
		by, _ := s.judged(members[i].offset)
		plan = max(plan, by.plan)
	}
	return plan, gained && len(members) > 0 && w.End.Add(c.held()) <= c.past.watermark
}

// window compares one tumbling or sliding window of the present key.
func (c *comparison) window(w window.Window, members []member) error {
	if err := c.upTo(w); err != nil {
		return err
	}
	all, err := c.all(w)
	if err != nil {
		return err
	}
	got := c.follow(w, all)
	c.decide(members, w.End.Add(c.def.Lateness), func(taken []member) []*Difference {
		return c.one(w, taken, got)
	})
	return nil
}

// decide tries the possible outcomes, and reports the differences of the first, that of no attempt having died: as doubts where
// another outcome is equal.
func (c *comparison) decide(members []member, final event.Time, try func([]member) []*Difference) {
	if c.out.Groups++; c.out.Groups%10_000 == 0 {
		c.Tell(c.pipe.Name, "windows "+c.def.Name, c.out.Groups, 0)
	}
	var first []*Difference
	tried, equal := 0, false
	all := c.outcomes(members, final, func(taken []member) bool {
		found := try(taken)
		if tried++; tried == 1 {
			first = found
		}
		equal = len(found) == 0
		return equal
	})
	switch {
	case equal && tried == 1:
	case equal:
		c.out.Doubtful++
		c.doubt(first)
	case !all:
		c.out.Undecided++
		c.doubt(first)
	default:
		for _, d := range first {
			if tried > 1 {
				d.Note = strings.TrimPrefix(fmt.Sprintf("%s; nor is any of %d outcomes equal that attempts which died may have led to", d.Note, tried), "; ")
			}
			c.out.differ(c.Most, d)
		}
	}
}

func (c *comparison) doubt(differences []*Difference) {
	for _, d := range differences {
		if len(c.out.Doubts) < c.Most {
			c.out.Doubts = append(c.out.Doubts, *d)
		}
	}
}

// one compares a window as it should be with its newest pane, nil if there is none.
func (c *comparison) one(w window.Window, taken []member, got *pane) []*Difference {
	plan, want := c.expected(w, taken)
	switch {
	case got == nil && (!want || plan < c.oldest):
		return nil
	case got == nil:
		d := c.difference(Missing, c.key, w)
		d.Values, d.Records = c.query.differences(taken, []byte(`{}`)), c.ranges(taken)
		return []*Difference{d}
	case !want:
		d := c.difference(Superfluous, c.key, w)
		d.At, d.Note, d.Records = &got.at, fmt.Sprintf("revision %d", got.revision), c.ranges(taken)
		return []*Difference{d}
	}
	values := c.query.differences(taken, got.results)
	if len(values) == 0 {
		return nil
	}
	d := c.difference(Different, c.key, w)
	d.Values, d.At, d.Records = values, &got.at, c.ranges(taken)
	return []*Difference{d}
}

// upTo goes past panes of earlier keys, and of this one before a window: no record accounts for them.
func (c *comparison) upTo(w window.Window) error {
	for c.panes.before(c.key, w) {
		if err := c.superfluous(); err != nil {
			return err
		}
	}
	return nil
}

// superfluous takes a pane for which there is no record, and reports it unless it was left out.
func (c *comparison) superfluous() error {
	key, p, err := c.panes.take()
	if err != nil {
		return err
	}
	p.at.Topic = c.pipe.SinkTopic
	left := p.Start <= c.before || p.End > c.until || p.End > c.past.watermark
	switch c.def.Kind {
	case window.KindSession:
		left = left || p.Start.Sub(c.before) < c.longestGap() && c.before != event.MinTime
	case window.KindGlobal:
		left = false // what there is of one is compared, or nothing
	case window.KindTumbling, window.KindSliding, window.KindCumulate:
	}
	if left {
		return nil
	}
	d := c.difference(Superfluous, key, p.Window)
	d.At, d.Note = &p.at, fmt.Sprintf("revision %d; no record of the key is in that window", p.revision)
	c.out.differ(c.Most, d)
	return nil
}

// all takes the panes of a window of the present key, ascending by revision. One that is there twice with the same revision was
// published twice.
func (c *comparison) all(w window.Window) ([]*pane, error) {
	var got *pane
	var all []*pane
	for c.panes.next != nil && c.panes.next.Window == w && bytes.Equal(c.panes.key, c.key) {
		_, p, err := c.panes.take()
		if err != nil {
			return nil, err
		}
		p.at.Topic = c.pipe.SinkTopic
		if got != nil && got.revision == p.revision {
			d := c.difference(Twice, c.key, w)
			d.At, d.Note = &p.at, fmt.Sprintf("revision %d is also at offset %d of partition %d", p.revision, got.at.Offset, got.at.Partition)
			c.out.differ(c.Most, d)
			continue
		}
		got = p
		all = append(all, p)
	}
	return all, nil
}
