package ops

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/watermark"
	"github.com/llm-auto-optimizer/tidemark/core/window"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// maxWindows bounds the open windows in an answer, for each pipeline, where Deps do not.
const maxWindows = 50

// Explanation says why windows have not fired.
type Explanation struct {
	Time      string              `json:"time"`
	Pipelines []PipelineExplained `json:"pipelines"`
}

// PipelineExplained is what fire would find if it looked now.
type PipelineExplained struct {
	Pipeline  string               `json:"pipeline"`
	Group     string               `json:"group"`
	Plan      int64                `json:"plan"`      // the newest committed one
	PlanAt    *string              `json:"plan_at"`   // null before the first
	Watermark *string              `json:"watermark"` // of that plan
	Age       string               `json:"watermark_age,omitempty"`
	Next      *string              `json:"next_watermark"` // what a plan made now would have
	HeldBy    string               `json:"held_by"`
	Holder    string               `json:"holder_reason"`
	Holding   string               `json:"holding"` // what the holder waits for, and what moves it on
	Due       bool                 `json:"due"`
	Halts     []string             `json:"halts"`
	Why       []string             `json:"why"`
	Parts     []PartitionExplained `json:"partitions"`
	Open      int                  `json:"open_windows"` // how many there are; sessions count as the buckets that hold them
	Windows   []WindowExplained    `json:"windows"`      // the first of them
	Early     []EarlyLook          `json:"early,omitempty"`
	EarlyNote string               `json:"early_note,omitempty"`
}

// PartitionExplained is how far a partition is.
type PartitionExplained struct {
	Topic      string  `json:"topic"`
	Partition  int32   `json:"partition"`
	State      string  `json:"state"`     // ok, or what the slot lacks
	Applied    int64   `json:"applied"`   // next offset to fold; where a restore would begin if there is no slot
	Committed  *int64  `json:"committed"` // of the plan; null: no genesis
	ReplayFrom *int64  `json:"replay_from"`
	Trigger    *int64  `json:"trigger"` // of the trigger's group
	End        int64   `json:"end"`
	Lag        int64   `json:"lag"`
	MaxTime    *string `json:"max_event_time"`
	Watermark  *string `json:"watermark"` // what its own records allow
	LastRecord string  `json:"last_record_age,omitempty"`
	Idle       bool    `json:"idle"`
	IdleIn     string  `json:"idle_in,omitempty"` // if no record comes
	Stuck      bool    `json:"stuck"`             // records wait, and none was folded for a while
	Blocked    string  `json:"blocked,omitempty"`
	Open       bool    `json:"open_transaction"`
}

// WindowExplained is a window that has records and still takes more.
type WindowExplained struct {
	Name  string   `json:"name"`
	Type  string   `json:"type"`
	Start string   `json:"start"`
	End   string   `json:"end"` // fires when the watermark gets there; of sessions the earliest end
	Fired bool     `json:"fired"`
	Due   bool     `json:"due"`             // it has ended and the next plan fires it
	ToGo  string   `json:"to_go,omitempty"` // how far the watermark has to move
	Final string   `json:"final"`           // from this watermark on it takes no record
	In    []string `json:"partitions"`
	at    window.Window
}

// EarlyLook is what a window has of a key so far.
type EarlyLook struct {
	Window  string          `json:"window"`
	Start   string          `json:"start"`
	End     string          `json:"end"`
	Records int64           `json:"records"`
	Results json.RawMessage `json:"results"`
}

// look is one pipeline as it is read.
type look struct {
	*Handler
	pipe    *pipeline.Pipeline
	plan    *apply.Plan
	parts   []*lookPart
	out     *PipelineExplained
	now     event.Time
	trigger map[event.TopicPartition]int64 // up to where it has delivered
}

type lookPart struct {
	kafkaio.Partition
	base    *apply.Base // nil: no genesis
	status  statestore.Status
	stored  bool // there is a slot
	offsets kafkaio.Offsets
	out     PartitionExplained
}

// Explain says of each pipeline, or of one, why its windows have not fired. It decides as fire does, and changes nothing. With a
// key it also tells what the open windows have of it.
func (h *Handler) Explain(ctx context.Context, pipe string, key *string) (*Explanation, error) {
	pipes, err := h.pipelines(pipe)
	if err != nil {
		return nil, err
	}
	out := &Explanation{Time: h.Clock().String(), Pipelines: []PipelineExplained{}}
	for _, p := range pipes {
		l := &look{Handler: h, pipe: p, now: h.Clock(), trigger: map[event.TopicPartition]int64{}, out: &PipelineExplained{
			Pipeline: p.Name, Group: p.Group(), Halts: []string{}, Why: []string{}, Parts: []PartitionExplained{}, Windows: []WindowExplained{},
		}}
		if err := l.explain(ctx, key); err != nil {
			return nil, fmt.Errorf("pipeline %s: %w", p.Name, err)
		}
		out.Pipelines = append(out.Pipelines, *l.out)
	}
	return out, nil
}

func (l *look) explain(ctx context.Context, key *string) error {
	all, err := l.Log.Partitions(ctx, l.pipe.Topics)
	if err != nil {
		return fmt.Errorf("source partitions: %w", err)
	}
	if l.plan, err = apply.ReadPlan(ctx, l.Log, l.pipe); err != nil {
		return err
	}
	for _, group := range l.App.TriggerGroups(l.pipe.Topics) {
		committed, err := l.Log.Group(ctx, group)
		if err != nil {
			return fmt.Errorf("position of the trigger's group %s: %w", group, err)
		}
		for tp, c := range committed {
			l.trigger[tp] = max(l.trigger[tp], c.Offset)
		}
	}
	o := l.out
	o.Plan, o.PlanAt, o.Watermark = l.plan.Number, stamp(l.plan.At), stamp(l.plan.Watermark)
	if l.plan.Watermark != event.MinTime {
		o.Age = l.now.Sub(l.plan.Watermark).Duration().Round(time.Millisecond).String()
	}
	tps := make([]event.TopicPartition, len(all))
	for i, part := range all {
		tps[i] = part.TopicPartition
		if err := l.partition(ctx, part); err != nil {
			return err
		}
	}
	if err := l.strangers(ctx); err != nil {
		return err
	}
	offsets, err := l.Log.Offsets(ctx, tps) // after the slots: what comes in between is lag, not idleness
	if err != nil {
		return fmt.Errorf("end offsets: %w", err)
	}
	for _, p := range l.parts {
		p.offsets = offsets[p.TopicPartition]
		if err := l.bounds(ctx, p); err != nil {
			return err
		}
	}
	d := l.low()
	l.windows(d)
	l.why(d)
	if key != nil {
		if err := l.early(ctx, *key); err != nil {
			return err
		}
	}
	for _, p := range l.parts {
		o.Parts = append(o.Parts, p.out)
	}
	return nil
}

// partition reads the slot of a partition.
func (l *look) partition(ctx context.Context, part kafkaio.Partition) error {
	p := &lookPart{Partition: part, out: PartitionExplained{Topic: part.Topic, Partition: part.TopicPartition.Partition, State: "ok"}}
	l.parts = append(l.parts, p)
	if b, ok := l.plan.Partitions[part.TopicPartition]; ok {
		p.base = &b
		p.out.Committed, p.out.ReplayFrom = &b.Offset, &b.ReplayFrom
	}
	st, err := l.Store.Status(ctx, apply.SlotID(l.pipe, part))
	switch {
	case err == nil:
		p.status, p.stored = st, true
	case errors.Is(err, statestore.ErrNoSlot):
		p.out.State = "no slot: the next plan, or the next batch, restores it from the log"
	case errors.Is(err, statestore.ErrVersion):
		p.out.State = "of a newer version: " + err.Error()
		l.out.Halts = append(l.out.Halts, p.out.State)
	case errors.Is(err, statestore.ErrFormat):
		p.out.State = "damaged; it will be dropped and rebuilt from the log: " + err.Error()
	default:
		return fmt.Errorf("status: %w", err)
	}
	switch {
	case p.base == nil && p.stored && !l.plan.Ended:
		p.out.State = "no genesis"
		l.out.Halts = append(l.out.Halts, fmt.Sprintf("%s has state, but the group %s has no offset for it: its offsets were deleted or have expired; "+
			"restore them, or drop the state to begin again", apply.SlotID(l.pipe, part), l.pipe.Group()))
	case p.base == nil:
		p.out.State = "no genesis: fire begins the partition"
	case p.base.TopicID != part.TopicID:
		p.out.State = "the topic was made anew"
		l.out.Halts = append(l.out.Halts, apply.MadeAnew(part.TopicPartition, l.plan.Number))
	case p.stored && !p.status.HasCut(p.base.Token):
		p.out.State = fmt.Sprintf("does not build on plan %d: the next plan restores it", l.plan.Number)
	}
	if !p.stored && p.base != nil { // as a restore would make it
		cut := statestore.Cut{Token: p.base.Token, Offset: p.base.Offset, Watermark: p.base.Watermark}
		p.status.Meta = statestore.Meta{Applied: p.base.ReplayFrom, MaxTime: p.base.MaxTime, LastRecordAt: l.now, Base: cut, Top: cut}
	}
	if !p.stored && p.base == nil {
		p.status.Meta = statestore.Meta{MaxTime: event.MinTime, LastRecordAt: event.MinTime}
	}
	return nil
}

// strangers looks for state of a topic that was made anew, where partitions have no genesis.
func (l *look) strangers(ctx context.Context) error {
	ids, topic := map[[16]byte]bool{}, ""
	for _, b := range l.plan.Partitions {
		ids[b.TopicID] = true
	}
	for _, p := range l.parts {
		if p.base == nil {
			ids[p.TopicID], topic = true, p.Topic
		}
	}
	if topic == "" || l.plan.Ended {
		return nil
	}
	stored, err := l.Store.Slots(ctx, l.pipe.ID())
	if err != nil {
		return fmt.Errorf("slots: %w", err)
	}
	if why := apply.Stranger(stored, ids, topic); why != "" {
		l.out.Halts = append(l.out.Halts, why)
	}
	return nil
}

// bounds compares a slot with its log.
func (l *look) bounds(ctx context.Context, p *lookPart) error {
	o := &p.out
	o.Applied, o.End, o.Open = p.status.Applied, p.offsets.End, p.offsets.Stable < p.offsets.End
	o.MaxTime = stamp(p.status.MaxTime)
	if t, ok := l.trigger[p.TopicPartition]; ok {
		o.Trigger = &t
	}
	if p.base == nil {
		o.Applied = p.offsets.Start
	}
	o.Lag = max(0, o.End-o.Applied)
	if p.stored {
		o.LastRecord = l.now.Sub(p.status.LastRecordAt).Duration().Round(time.Millisecond).String()
	}
	if p.base == nil || p.base.TopicID != p.TopicID {
		return nil
	}
	if why := apply.Outside(p.TopicPartition, p.status.Applied, p.offsets); why != "" {
		l.out.Halts = append(l.out.Halts, why)
		return nil
	}
	if !p.stored || p.status.Applied >= p.offsets.Stable || l.pipe.Policy != spec.PolicyFail {
		return nil
	}
	return l.blocked(ctx, p)
}

// errSeen ends a read.
var errSeen = errors.New("seen")

// blocked finds out whether the next record of a partition is one that the policy fail stops at: whatever comes before it has
// been committed.
func (l *look) blocked(ctx context.Context, p *lookPart) error {
	to := min(p.offsets.Stable, p.status.Applied+1000)
	f := l.pipe.NewFolder(p.TopicPartition)
	err := l.Log.Read(ctx, p.TopicPartition, p.status.Applied, to, func(records []event.Record, _ int64) error {
		if len(records) == 0 {
			return nil
		}
		f.Begin(pipeline.Chunk{From: p.status.Applied, Fence: p.status.Top.Watermark})
		if err := f.Add(&records[0]); err != nil {
			p.out.Blocked = err.Error()
		}
		return errSeen
	})
	if err != nil && !errors.Is(err, errSeen) {
		return fmt.Errorf("read %s/%d at %d: %w", p.Topic, p.TopicPartition.Partition, p.status.Applied, err)
	}
	return nil
}

// verdict is what fire would come to.
type verdict struct {
	watermark.Decision
	behind int64 // offsets of the committed plan that have to be folded again
}

// low comes to what fire would: the watermark of the next plan, and whether there would be one.
func (l *look) low() verdict {
	o := l.out
	var inputs []watermark.Partition
	var slots []pipeline.SlotStatus
	behind := int64(0)
	for _, p := range l.parts {
		if p.base == nil {
			continue
		}
		inputs = append(inputs, apply.Facts(p.TopicPartition, &p.status, p.offsets))
		slots = append(slots, apply.SlotStatus(p.base, &p.status))
		behind += max(0, p.base.Offset-p.status.Applied)
	}
	d := watermark.Low(l.pipe.WatermarkPolicy(), inputs, l.plan.Watermark, l.now)
	for _, p := range l.parts {
		l.standing(p, slices.Contains(d.Idle, p.TopicPartition))
	}
	o.Next, o.HeldBy, o.Holder = stamp(d.Watermark), d.Holder.String(), string(d.Holder.Reason)
	due := l.pipe.Due(l.plan.Watermark, d.Watermark, slots)
	waited := l.now.Sub(l.plan.At) >= l.pipe.Watermark.EmitInterval
	o.Due = len(o.Halts) == 0 && !l.plan.Ended && behind == 0 && (due.Now() || waited && (due.Compact || d.Moved))
	return verdict{d, behind}
}

// why says it in sentences.
func (l *look) why(d verdict) {
	o := l.out
	say := func(format string, args ...any) { o.Why = append(o.Why, fmt.Sprintf(format, args...)) }
	switch {
	case l.plan.Ended:
		say("the pipeline has ended: another version of it took over; fire answers {\"takeover\":true} by taking over again")
	case len(l.plan.Partitions) == 0:
		say("no plan was committed yet: fire has not begun; see whether it is scheduled, and what it logs")
	}
	for _, halt := range o.Halts {
		say("halted: %s", halt)
	}
	for _, p := range l.parts {
		if p.out.Blocked != "" {
			say("%s/%d is blocked under the policy fail: %s", p.Topic, p.TopicPartition.Partition, p.out.Blocked)
		}
	}
	for _, p := range l.parts {
		if p.out.Stuck && p.TopicPartition != d.Holder.TopicPartition {
			say("%s/%d is stuck: %s", p.Topic, p.TopicPartition.Partition, l.waits(p, watermark.Holder{Reason: watermark.ReasonLagging, Lag: p.out.Lag}))
		}
	}
	if d.behind > 0 {
		say("%d offsets of the committed plan are folded again first: state was lost, and there is no plan before that", d.behind)
	}
	if l.plan.At != event.MinTime {
		say("plan %d was made %s ago; %s", l.plan.Number, l.now.Sub(l.plan.At).Duration().Round(time.Millisecond), d.Decision)
	}
	if len(o.Halts) == 0 && !l.plan.Ended && len(l.plan.Partitions) > 0 {
		if o.Holding = l.holding(d.Decision); o.Holding != "" {
			say("%s", o.Holding)
		}
		if next := l.next(d.Decision); next != "" {
			say("%s", next)
		}
	}
	if o.Due {
		say("a plan is due now: if fire does not make it with its next look, see whether it is scheduled, and what it logs")
	}
}

// windows lists what is open, as far as the status of the slots tells.
func (l *look) windows(d verdict) {
	type place struct {
		def        uint16
		start, end event.Time
	}
	at, next := map[place]*WindowExplained{}, d.Watermark
	for _, p := range l.parts {
		tp := fmt.Sprintf("%s/%d", p.Topic, p.TopicPartition.Partition)
		for _, s := range p.status.Slices {
			if s.ID.Window >= statestore.ListRefused || int(s.ID.Window) >= len(l.pipe.Windows) {
				continue
			}
			def := &l.pipe.Windows[s.ID.Window]
			slice := def.SliceAt(s.ID.Start)
			found := def.WindowsOf(nil, slice)
			final := event.Span(0)
			if len(found) == 0 { // a session's bucket
				found = append(found, window.Window{Start: slice.Start, End: def.FirstEnd(slice)})
				final = slice.End.Sub(slice.Start)
			}
			for _, w := range found {
				last := w.End.Add(final).Add(def.Lateness)
				if last <= l.plan.Watermark {
					continue
				}
				k := place{s.ID.Window, w.Start, w.End}
				if at[k] == nil {
					at[k] = &WindowExplained{
						Name: def.Name, Type: def.Kind.String(), Start: w.Start.String(), End: w.End.String(),
						Fired: w.End <= l.plan.Watermark, Due: w.End > l.plan.Watermark && w.End <= next, Final: last.String(), at: w,
					}
					if l.plan.Watermark != event.MinTime && w.End > l.plan.Watermark {
						at[k].ToGo = w.End.Sub(l.plan.Watermark).Duration().String()
					}
				}
				if !slices.Contains(at[k].In, tp) {
					at[k].In = append(at[k].In, tp)
				}
			}
		}
	}
	for _, w := range at {
		l.out.Windows = append(l.out.Windows, *w)
	}
	slices.SortFunc(l.out.Windows, func(a, b WindowExplained) int {
		return cmp.Or(cmp.Compare(a.at.End, b.at.End), cmp.Compare(a.at.Start, b.at.Start), cmp.Compare(a.Name, b.Name))
	})
	l.out.Open = len(l.out.Windows)
	l.out.Windows = l.out.Windows[:min(len(l.out.Windows), l.Windows)]
}

// early merges what the open windows have of a key. Each partition is read as of its own moment.
func (l *look) early(ctx context.Context, key string) error {
	v, err := l.pipe.NewView(&key)
	if err != nil {
		return err
	}
	for _, p := range l.parts {
		if !p.stored {
			continue
		}
		ids := make([]statestore.SliceID, 0, len(p.status.Slices))
		for _, s := range p.status.Slices {
			if s.ID.Window < statestore.ListRefused {
				ids = append(ids, s.ID)
			}
		}
		slot := apply.SlotID(l.pipe, p.Partition)
		err := readSlices(ctx, l.Store, slot, p.status.Top.Token, ids, func(ref statestore.DeltaRef, payload []byte) error { return v.Add(ref.Slice, payload) })
		if errors.Is(err, statestore.ErrRefused) || errors.Is(err, statestore.ErrNoSlot) {
			return fmt.Errorf("a plan was made while the state of %s was read: ask again: %w", slot, err)
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", slot, err)
		}
	}
	groups, more, err := v.Open(l.plan.Watermark, l.Windows)
	if err != nil {
		return err
	}
	l.out.EarlyNote = "not final: what is folded so far; the windows go on taking records"
	if more {
		l.out.EarlyNote += fmt.Sprintf("; the first %d windows, there are more", l.Windows)
	}
	l.out.Early = []EarlyLook{}
	for _, g := range groups {
		l.out.Early = append(l.out.Early, EarlyLook{Window: g.Name, Start: g.Window.Start.String(), End: g.Window.End.String(), Records: g.Records, Results: g.Results})
	}
	return nil
}
