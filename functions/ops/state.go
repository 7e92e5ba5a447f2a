package ops

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/window"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// Pages: so many slots or slices are in an answer unless fewer are asked for, and never more.
const (
	defaultPage = 100
	maxPage     = 2000
	readPage    = 200 // deltas read in one call
	indexPage   = 100 // slices indexed in one call
)

func page(limit int) int {
	if limit == 0 {
		return defaultPage
	}
	return min(limit, maxPage)
}

// Slots lists the slots that a store has of some pipelines, by pipeline, topic and partition. The name of the topic is filled in
// where the store does not know it and the pipeline has only one.
func Slots(ctx context.Context, store statestore.Store, pipes []*pipeline.Pipeline) ([]statestore.Slot, error) {
	var out []statestore.Slot
	for _, p := range pipes {
		found, err := store.Slots(ctx, p.ID())
		if err != nil {
			return nil, err
		}
		for i := range found {
			if found[i].Topic == "" && len(p.Topics) == 1 {
				found[i].Topic = p.Topics[0]
			}
		}
		slices.SortFunc(found, func(a, b statestore.Slot) int {
			return cmp.Or(cmp.Compare(a.Topic, b.Topic), slices.Compare(a.TopicID[:], b.TopicID[:]), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Shard, b.Shard))
		})
		out = append(out, found...)
	}
	return out, nil
}

// StateQuery picks slots: of a pipeline, whose name begins with Prefix, that come behind After, at most Limit.
type StateQuery struct {
	Pipeline, Prefix, After string
	Limit                   int
}

// StateList is a page of slots.
type StateList struct {
	Slots []SlotInfo `json:"slots"`
	Next  string     `json:"next,omitempty"` // the after of the next page; empty: there is none
}

// SlotInfo is a slot in short.
type SlotInfo struct {
	Slot         string  `json:"slot"`        // PIPELINE/TOPIC/PARTITION
	PipelineID   string  `json:"pipeline_id"` // as the store names it
	TopicID      string  `json:"topic_id"`
	Applied      int64   `json:"applied"`
	MaxTime      *string `json:"max_event_time"`
	LastRecordAt *string `json:"last_record_at"`
	Fence        *string `json:"fence"`
	Slices       int     `json:"slices"`
	Deltas       int     `json:"deltas"`
	Trouble      string  `json:"trouble,omitempty"`
}

type namedSlot struct {
	name string
	pipe *pipeline.Pipeline
	id   statestore.Slot
}

// named lists slots by their names, ascending. Where the store cannot tell topics, Kafka's ids do.
func (h *Handler) named(ctx context.Context, pipe string) ([]namedSlot, error) {
	pipes, err := h.pipelines(pipe)
	if err != nil {
		return nil, err
	}
	topics := map[[16]byte]string{}
	if h.Log != nil {
		for _, p := range pipes {
			parts, err := h.Log.Partitions(ctx, p.Topics)
			if err != nil {
				return nil, fmt.Errorf("source partitions: %w", err)
			}
			for _, part := range parts {
				topics[part.TopicID] = part.Topic
			}
		}
	}
	var out []namedSlot
	for _, p := range pipes {
		found, err := h.Store.Slots(ctx, p.ID())
		if err != nil {
			return nil, err
		}
		for _, id := range found {
			if t := topics[id.TopicID]; t != "" {
				id.Topic = t
			}
			topic := cmp.Or(id.Topic, fmt.Sprintf("topic-%x", id.TopicID))
			if topics[id.TopicID] == "" && h.Log != nil {
				topic = fmt.Sprintf("topic-%x", id.TopicID) // of a topic that is gone, or was made anew
			}
			out = append(out, namedSlot{fmt.Sprintf("%s/%s/%d", p.Name, topic, id.Partition), p, id})
		}
	}
	slices.SortFunc(out, func(a, b namedSlot) int { return cmp.Compare(sortable(a.name), sortable(b.name)) })
	return out, nil
}

// sortable makes partitions ascend by number.
func sortable(name string) string {
	i := strings.LastIndexByte(name, '/')
	return fmt.Sprintf("%s%12s", name[:i+1], name[i+1:])
}

// State lists slots.
func (h *Handler) State(ctx context.Context, q StateQuery) (*StateList, error) {
	all, err := h.named(ctx, q.Pipeline)
	if err != nil {
		return nil, err
	}
	out := &StateList{Slots: []SlotInfo{}}
	for _, s := range all {
		if !strings.HasPrefix(s.name, q.Prefix) || q.After != "" && strings.Contains(q.After, "/") && sortable(s.name) <= sortable(q.After) {
			continue
		}
		if len(out.Slots) == page(q.Limit) {
			out.Next = out.Slots[len(out.Slots)-1].Slot
			break
		}
		info := SlotInfo{Slot: s.name, TopicID: fmt.Sprintf("%x", s.id.TopicID)}
		st, err := h.Store.Status(ctx, s.id)
		if err != nil {
			info.Trouble = err.Error()
		} else {
			info.Applied, info.MaxTime, info.LastRecordAt = st.Applied, stamp(st.MaxTime), stamp(st.LastRecordAt)
			info.Fence, info.Slices = stamp(st.Top.Watermark), len(st.Slices)
			for _, x := range st.Slices {
				info.Deltas += x.Deltas
			}
		}
		out.Slots = append(out.Slots, info)
	}
	return out, nil
}

// SlotDetails is a slot and a page of its slices.
type SlotDetails struct {
	SlotInfo
	Base   CutInfo     `json:"base"`
	Top    CutInfo     `json:"top"`
	Detail []SliceInfo `json:"detail"`
	Next   string      `json:"next,omitempty"`
}

// CutInfo is a cut.
type CutInfo struct {
	Token     string  `json:"token"`
	Offset    int64   `json:"offset"`
	Watermark *string `json:"watermark"`
}

// SliceInfo is what a slice, or a reserved list, takes.
type SliceInfo struct {
	Window  string `json:"window"` // or counts, outbox, refused
	Start   string `json:"start,omitempty"`
	End     string `json:"end,omitempty"`
	Final   string `json:"final,omitempty"` // from this watermark on it is purged; sessions are decided one by one
	Deltas  int    `json:"deltas"`
	From    int64  `json:"from"` // offsets
	To      int64  `json:"to"`
	Owned   int64  `json:"owned_records"`
	Groups  int    `json:"groups"`
	Bytes   int64  `json:"bytes"` // of payloads, not compressed
	Trouble string `json:"trouble,omitempty"`
	after   string
}

func cutInfo(c statestore.Cut) CutInfo {
	return CutInfo{fmt.Sprintf("%x", c.Token), c.Offset, stamp(c.Watermark)}
}

func (h *Handler) slotState(ctx context.Context, r *request) (*SlotDetails, error) {
	slot := r.Slot
	if slot == "" {
		pipes, err := h.pipelines(r.Pipeline)
		if err != nil {
			return nil, err
		}
		if r.Partition == nil {
			return nil, fmt.Errorf("%w: topic needs a partition; prefix lists slots", ErrPayload)
		}
		if len(pipes) > 1 {
			return nil, fmt.Errorf("%w: name the pipeline, too", ErrPayload)
		}
		slot = name(pipes[0], event.TopicPartition{Topic: r.Topic, Partition: *r.Partition})
	}
	return h.Slot(ctx, slot, r.After, r.Limit)
}

// Slot tells of one slot and, from behind after on, of at most limit of its slices.
func (h *Handler) Slot(ctx context.Context, slot, after string, limit int) (*SlotDetails, error) {
	all, err := h.named(ctx, "")
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(s namedSlot) bool { return s.name == slot })
	if i < 0 {
		return nil, fmt.Errorf("%w: no slot %q; state without one lists them", statestore.ErrNoSlot, slot)
	}
	s := all[i]
	st, err := h.Store.Status(ctx, s.id)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	out := &SlotDetails{
		SlotInfo: SlotInfo{
			Slot: s.name, TopicID: fmt.Sprintf("%x", s.id.TopicID), Applied: st.Applied, MaxTime: stamp(st.MaxTime),
			LastRecordAt: stamp(st.LastRecordAt), Fence: stamp(st.Top.Watermark), Slices: len(st.Slices),
		},
		Base: cutInfo(st.Base), Top: cutInfo(st.Top), Detail: []SliceInfo{},
	}
	for _, x := range st.Slices {
		out.Deltas += x.Deltas
		at := fmt.Sprintf("%05d/%020d", x.ID.Window, uint64(x.ID.Start)+1<<63)
		if at <= after || out.Next != "" {
			continue
		}
		if len(out.Detail) == page(limit) {
			out.Next = out.Detail[len(out.Detail)-1].after
			continue
		}
		info, err := h.slice(ctx, s, st.Top.Token, x.ID)
		if err != nil {
			return nil, fmt.Errorf("%s: a plan may have been made meanwhile: %w", s.name, err)
		}
		info.after = at
		out.Detail = append(out.Detail, info)
	}
	return out, nil
}

func (h *Handler) slice(ctx context.Context, s namedSlot, token statestore.Token, id statestore.SliceID) (SliceInfo, error) {
	info := SliceInfo{From: -1}
	switch id.Window {
	case statestore.ListCounts:
		info.Window = "counts"
	case statestore.ListOutbox:
		info.Window = "outbox"
	case statestore.ListRefused:
		info.Window = "refused"
	default:
		if int(id.Window) >= len(s.pipe.Windows) {
			info.Window = fmt.Sprintf("window %d", id.Window)
			break
		}
		d := &s.pipe.Windows[id.Window]
		slice := d.SliceAt(id.Start)
		info.Window, info.Start, info.End = d.Name, slice.Start.String(), slice.End.String()
		if d.Kind != window.KindSession {
			info.Final = d.LastEnd(slice).Add(d.Lateness).String()
		}
	}
	v, err := s.pipe.NewView(nil)
	if err != nil {
		return info, err
	}
	err = readSlices(ctx, h.Store, s.id, token, []statestore.SliceID{id}, func(r statestore.DeltaRef, payload []byte) error {
		info.Deltas++
		info.Owned += r.Owned
		info.Bytes += int64(len(payload))
		if info.From < 0 || r.From < info.From {
			info.From = r.From
		}
		info.To = max(info.To, r.To)
		if err := v.Add(r.Slice, payload); err != nil {
			info.Trouble = err.Error()
		}
		return nil
	})
	info.Groups = v.Groups()
	return info, err
}

// readSlices reads the deltas of some slices, in pages, in the order of the slices. ErrRefused if no cut has the token any more.
func readSlices(ctx context.Context, store statestore.Store, slot statestore.Slot, token statestore.Token, ids []statestore.SliceID,
	fn func(ref statestore.DeltaRef, payload []byte) error,
) error {
	for chunk := range slices.Chunk(ids, indexPage) {
		refs, err := store.Index(ctx, slot, token, chunk)
		if err != nil {
			return err
		}
		for some := range slices.Chunk(refs, readPage) {
			payloads, err := store.Read(ctx, slot, token, some)
			if err != nil {
				return err
			}
			for i, payload := range payloads {
				if err := fn(some[i], payload); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// slotsOf names the slots of all partitions of the app, whether or not they exist.
func (h *Handler) slotsOf(ctx context.Context) ([]statestore.Slot, error) {
	var out []statestore.Slot
	for _, p := range h.Pipelines {
		parts, err := h.partitions(ctx, p, Selection{})
		if err != nil {
			return nil, err
		}
		for _, part := range parts {
			out = append(out, apply.SlotID(p, part))
		}
	}
	return out, nil
}
