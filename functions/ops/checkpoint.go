package ops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/bucket"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/checkpoint"
)

// ErrNothing is returned where the store has nothing to keep: a checkpoint of it would only take the place of better ones.
var ErrNothing = errors.New("no state to keep")

// Target opens a directory or an s3:// URL as a place for checkpoints.
func Target(ctx context.Context, place string) (checkpoint.Target, error) {
	if strings.HasPrefix(place, bucket.Scheme) {
		return bucket.Open(ctx, place)
	}
	return checkpoint.NewDirectory(place), nil
}

// Source finds what a restore is asked to take: a place, and a name if it is a single checkpoint.
func Source(ctx context.Context, from string) (target checkpoint.Target, name string, err error) {
	if strings.HasPrefix(from, bucket.Scheme) {
		place, name := bucket.Split(from)
		target, err := Target(ctx, place)
		return target, name, err
	}
	info, err := os.Stat(from)
	switch {
	case err != nil:
		return nil, "", err
	case info.IsDir():
		return checkpoint.NewDirectory(from), "", nil
	}
	return checkpoint.NewDirectory(filepath.Dir(from)), filepath.Base(from), nil
}

// Header is the beginning of a checkpoint of an app that is made at a time.
func Header(app *spec.App, pipes []*pipeline.Pipeline, now event.Time) checkpoint.Header {
	h := checkpoint.Header{App: app.Name, CreatedMS: int64(now)}
	for _, p := range pipes {
		h.Pipelines = append(h.Pipelines, checkpoint.Pipeline{ID: p.ID(), Name: p.Name, Group: p.Group()})
	}
	return h
}

func (h *Handler) place(asked string) (string, error) {
	if place := cmp.Or(asked, h.Checkpoints); place != "" {
		return place, nil
	}
	return "", fmt.Errorf("%w: there is no place for checkpoints: name one, or set TIDEMARK_CHECKPOINTS or processor.state.checkpoint_path", ErrPayload)
}

// checkpointAnswer says where a checkpoint is.
type checkpointAnswer struct {
	Path string `json:"path"`
	checkpoint.Totals
	Removed []string `json:"removed"`
	Notice  string   `json:"notice,omitempty"`
}

func (h *Handler) checkpoint(ctx context.Context, to string) (*checkpointAnswer, error) {
	place, err := h.place(to)
	if err != nil {
		return nil, err
	}
	target, err := Target(ctx, place)
	if err != nil {
		return nil, err
	}
	stored, err := Slots(ctx, h.Store, h.Pipelines)
	if err != nil {
		return nil, err
	}
	if len(stored) == 0 {
		return nil, fmt.Errorf("%w: the store has no partition of app %s", ErrNothing, h.App.Name)
	}
	// By the names that Kafka has of the topics, where the store knows none.
	all, err := h.slotsOf(ctx)
	if err != nil {
		return nil, err
	}
	saved, err := checkpoint.Save(ctx, target, h.Store, Header(h.App, h.Pipelines, h.Clock()), all, nil)
	if err != nil {
		return nil, err
	}
	return &checkpointAnswer{saved.Path, saved.Totals, append([]string{}, saved.Removed...), saved.Notice}, nil
}

// restoreAnswer says what became of each slot of a checkpoint.
type restoreAnswer struct {
	Path    string         `json:"path"`
	Created string         `json:"created"`
	Counts  map[string]int `json:"counts"` // by outcome
	Slots   []restoredSlot `json:"slots"`
	NotUsed []string       `json:"not_used"` // newer checkpoints
}

type restoredSlot struct {
	Pipeline  string `json:"pipeline"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Outcome   string `json:"outcome"`
	Applied   int64  `json:"applied"`
	Deltas    int    `json:"deltas"`
}

// maxRestored bounds the slots that an answer lists; the counts are of all.
const maxRestored = 5000

func (h *Handler) restore(ctx context.Context, from string) (*restoreAnswer, error) {
	place, err := h.place(from)
	if err != nil {
		return nil, err
	}
	target, one, err := Source(ctx, place)
	if err != nil {
		return nil, err
	}
	known, err := Committed(ctx, h.Log, h.Pipelines)
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	for _, p := range h.Pipelines {
		names[p.ID()] = p.Name
	}
	out := &restoreAnswer{Counts: map[string]int{}, Slots: []restoredSlot{}, NotUsed: []string{}}
	reason := "" // of the slot that was refused last
	wants := func(slot statestore.Slot, m statestore.Meta) bool {
		reason = known.judge(slot, m)
		return reason == ""
	}
	r, err := checkpoint.Restore(ctx, target, h.App.Name, one, h.Store, wants, func(r checkpoint.Result) {
		s := restoredSlot{cmp.Or(names[r.Slot.Pipeline], r.Slot.Pipeline), cmp.Or(known.topics[r.Slot.TopicID], r.Slot.Topic), r.Slot.Partition, string(r.Outcome), r.Applied, r.Deltas}
		if r.Outcome == checkpoint.Foreign {
			s.Outcome = reason
		}
		out.Counts[s.Outcome]++
		if len(out.Slots) < maxRestored {
			out.Slots = append(out.Slots, s)
		}
	})
	if err != nil {
		return nil, err
	}
	for _, passed := range r.Passed {
		out.NotUsed = append(out.NotUsed, passed.Error())
	}
	out.Path, out.Created = r.Path, r.Header.Created().Format(time.RFC3339Nano)
	return out, nil
}

// Why a slot of a checkpoint is not wanted.
const (
	slotForeign = "foreign" // of another pipeline
	slotChanged = "changed" // its topic was made anew, or is gone
	slotEarlier = "earlier" // from before the pipeline began anew: the group has no offset of it
	slotBehind  = "behind"  // reading the log from where the plan says costs less
)

// Known is what the committed plans say of slots, and how many slots of a checkpoint were not wanted because of it.
type Known struct {
	Behind  int // reading the log from where the plan says costs less
	Earlier int // the group has been made anew since
	Changed int // the topic has

	bases    map[statestore.Slot]*apply.Base // of the app's slots; nil: the group has no offset
	sessions map[string]bool                 // the app's pipelines; true: their slots are never adopted
	topics   map[[16]byte]string
}

func identity(s statestore.Slot) statestore.Slot {
	s.Topic = ""
	return s
}

// committedWithin bounds the wait for a plan that a dead firer left undecided: fire settles it.
const committedWithin = 10 * time.Second

// Committed reads the committed plans of pipelines.
func Committed(ctx context.Context, log kafkaio.Log, pipes []*pipeline.Pipeline) (*Known, error) {
	k := &Known{bases: map[statestore.Slot]*apply.Base{}, sessions: map[string]bool{}, topics: map[[16]byte]string{}}
	for _, p := range pipes {
		ctx, cancel := context.WithTimeout(ctx, committedWithin)
		err := k.pipeline(ctx, log, p)
		cancel()
		if err != nil {
			return nil, err
		}
	}
	return k, nil
}

func (k *Known) pipeline(ctx context.Context, log kafkaio.Log, p *pipeline.Pipeline) error {
	parts, err := log.Partitions(ctx, p.Topics)
	if err != nil {
		return err
	}
	plan, err := apply.ReadPlan(ctx, log, p)
	if err != nil {
		return err
	}
	k.sessions[p.ID()] = p.HasSessions()
	for _, part := range parts {
		var base *apply.Base
		if b, ok := plan.Partitions[part.TopicPartition]; ok && b.TopicID == part.TopicID && !plan.Ended {
			base = &b
		}
		k.bases[identity(apply.SlotID(p, part))] = base
		k.topics[part.TopicID] = part.Topic
	}
	return nil
}

// Wants reports whether a slot is the app's and spares reading the log: it has the committed plan's cut, or it can go on under it
// from beyond where a restore would begin. Without a committed offset it is of a group that was deleted.
func (k *Known) Wants(slot statestore.Slot, m statestore.Meta) bool { return k.judge(slot, m) == "" }

// judge says why a slot is not wanted; empty if it is.
func (k *Known) judge(slot statestore.Slot, m statestore.Meta) string {
	base, mine := k.bases[identity(slot)]
	if !mine {
		if _, ours := k.sessions[slot.Pipeline]; ours {
			k.Changed++
			return slotChanged
		}
		return slotForeign
	}
	if base == nil {
		k.Earlier++
		return slotEarlier
	}
	if m.HasCut(base.Token) {
		return ""
	}
	adopted := !k.sessions[slot.Pipeline] && !base.TakenOver && m.Applied <= base.Offset && m.Top.Watermark <= base.Watermark
	if !adopted || m.Applied <= base.ReplayFrom {
		k.Behind++
		return slotBehind
	}
	return ""
}
