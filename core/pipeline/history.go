package pipeline

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// PaneID names a window of a group: what panes are counted by.
type PaneID struct {
	Def int // index of the window definition
	window.Window
	Key string
}

// Sent is what has to be known of the panes of a window that have gone out, as long as it is not final. Where the state tells, no
// Sent is kept: a window that had records when it closed has sent one pane, with index 0.
type Sent struct {
	Next    int64  // how many panes have gone out, of this window and of the sessions that became part of it: the next one's index
	Out     []Out  // those that no later pane replaces; nothing where panes discard
	Records int64  // records of the window when its last pane went out
	Pending []byte // where panes discard: the stored row of the records that no pane has, nil if there are none
	Results []byte // where only changes go out: results of the last pane
}

// Out is a pane that has gone out.
type Out struct {
	window.Window
	Index   int64
	Results []byte // its results as JSON, where panes retract
}

// History is the pane history of a pipeline as of one plan. The zero History is empty. It is not safe for concurrent use.
type History struct {
	windows map[paneWindow]map[string]*Sent
}

type paneWindow struct {
	def int
	window.Window
}

// HistoryUpdate is a change of the history: a plan's, to be kept once the plan is committed.
type HistoryUpdate struct {
	PaneID
	Sent *Sent // nil: forget it
}

// Len is the number of entries.
func (h *History) Len() int {
	n := 0
	for _, keys := range h.windows {
		n += len(keys)
	}
	return n
}

// Apply brings the history up to a plan.
func (h *History) Apply(updates []HistoryUpdate) {
	if h.windows == nil {
		h.windows = map[paneWindow]map[string]*Sent{}
	}
	for _, u := range updates {
		at := paneWindow{u.Def, u.Window}
		switch {
		case u.Sent == nil:
			if delete(h.windows[at], u.Key); len(h.windows[at]) == 0 {
				delete(h.windows, at)
			}
		case h.windows[at] == nil:
			h.windows[at] = map[string]*Sent{u.Key: u.Sent}
		default:
			h.windows[at][u.Key] = u.Sent
		}
	}
}

// All lists the history, in a fixed order.
func (h *History) All() []HistoryUpdate {
	var out []HistoryUpdate
	for at, keys := range h.windows {
		for key, sent := range keys {
			out = append(out, HistoryUpdate{PaneID{at.def, at.Window, key}, sent})
		}
	}
	sortUpdates(out)
	return out
}

func sortUpdates(updates []HistoryUpdate) {
	slices.SortStableFunc(updates, func(a, b HistoryUpdate) int {
		return cmp.Or(cmp.Compare(a.Def, b.Def), cmp.Compare(a.End, b.End), cmp.Compare(a.Start, b.Start), cmp.Compare(a.Key, b.Key))
	})
}

func (h *History) get(id PaneID) *Sent { return h.windows[paneWindow{id.Def, id.Window}][id.Key] }

// byKey returns the entries of a definition by their keys, ascending by end: of sessions, whose windows change.
func (h *History) byKey(def int) map[string][]HistoryUpdate {
	out := map[string][]HistoryUpdate{}
	for at, keys := range h.windows {
		if at.def != def {
			continue
		}
		for key, sent := range keys {
			out[key] = append(out[key], HistoryUpdate{PaneID{def, at.Window, key}, sent})
		}
	}
	for _, list := range out {
		sortUpdates(list)
	}
	return out
}

// pending calls f for the windows of a definition in which some group has records that no pane has.
func (h *History) pending(def int, f func(window.Window)) {
	for at, keys := range h.windows {
		if at.def != def {
			continue
		}
		for _, sent := range keys {
			if sent.Pending != nil {
				f(at.Window)
				break
			}
		}
	}
}

// has reports whether there is any entry of a definition.
func (h *History) has(def int) bool {
	for at := range h.windows {
		if at.def == def {
			return true
		}
	}
	return false
}

// final returns updates that forget what is final at a watermark. Of sessions an entry cannot tell: they may have grown since.
func (h *History) final(p *Pipeline, w event.Time) []HistoryUpdate {
	var out []HistoryUpdate
	for at, keys := range h.windows {
		if p.Windows[at.def].Kind != window.KindSession && at.End.Add(p.Windows[at.def].Lateness) <= w {
			for key := range keys {
				out = append(out, HistoryUpdate{PaneID: PaneID{at.def, at.Window, key}})
			}
		}
	}
	return out
}

// historyVersion 1.
const historyVersion = 1

// sentRecord is the value of a record of the pane history.
type sentRecord struct {
	Version int         `json:"version"`
	Plan    int64       `json:"plan"` // that made it
	Next    int64       `json:"next"`
	Records int64       `json:"records"`
	Out     []outRecord `json:"out,omitempty"`
	Pending []byte      `json:"pending,omitempty"`
	Results string      `json:"results,omitempty"`
}

type outRecord struct {
	StartMS event.Time      `json:"start_ms"`
	EndMS   event.Time      `json:"end_ms"`
	Index   int64           `json:"index"`
	Results json.RawMessage `json:"results,omitempty"`
}

// HistoryRecord returns key and value of the record that keeps an update: GROUP|WINDOW|START|END|KEY, and JSON, or nothing to
// forget it. The grouping key comes last and as it is: it may hold anything.
func (p *Pipeline) HistoryRecord(plan int64, u HistoryUpdate) (key, value []byte, err error) {
	key = append(append(append(append(key, p.group...), '|'), p.Windows[u.Def].Name...), '|')
	key = append(strconv.AppendInt(key, int64(u.Start), 10), '|')
	key = append(strconv.AppendInt(key, int64(u.End), 10), '|')
	key = append(key, u.Key...)
	if u.Sent == nil {
		return key, nil, nil
	}
	r := sentRecord{
		Version: historyVersion, Plan: plan, Next: u.Sent.Next, Records: u.Sent.Records, Pending: u.Sent.Pending, Results: string(u.Sent.Results),
	}
	for _, o := range u.Sent.Out {
		r.Out = append(r.Out, outRecord{o.Start, o.End, o.Index, o.Results})
	}
	if value, err = json.Marshal(r); err != nil {
		return nil, nil, fmt.Errorf("pane history of %q: %w", u.Key, err)
	}
	return key, value, nil
}

// ReadHistory reads a record that HistoryRecord has made; ok is false for one of another group. plan is that of the record, and not
// told (0) by one that forgets. Errors wrap ErrPayload.
func (p *Pipeline) ReadHistory(key, value []byte) (u HistoryUpdate, plan int64, ok bool, err error) {
	rest, ours := bytes.CutPrefix(key, []byte(p.group+"|"))
	if !ours {
		return u, 0, false, nil
	}
	parts := bytes.SplitN(rest, []byte("|"), 4)
	if len(parts) != 4 {
		return u, 0, false, fmt.Errorf("pane history: key %.100q: %w", key, ErrPayload)
	}
	u.Def = slices.IndexFunc(p.Windows, func(d window.Definition) bool { return d.Name == string(parts[0]) })
	start, startErr := strconv.ParseInt(string(parts[1]), 10, 64)
	end, endErr := strconv.ParseInt(string(parts[2]), 10, 64)
	if u.Def < 0 || startErr != nil || endErr != nil || start >= end {
		return u, 0, false, fmt.Errorf("pane history: key %.100q: %w", key, ErrPayload)
	}
	u.Window, u.Key = window.Window{Start: event.Time(start), End: event.Time(end)}, string(parts[3])
	if value == nil {
		return u, 0, true, nil
	}
	var r sentRecord
	switch err := json.Unmarshal(value, &r); {
	case err != nil:
		return u, 0, false, fmt.Errorf("pane history of %.100q: %w: %w", key, err, ErrPayload)
	case r.Version > historyVersion:
		return u, 0, false, fmt.Errorf("pane history of %.100q: version %d is newer than this program, which reads up to %d: %w", key, r.Version, historyVersion, ErrPayload)
	case r.Version < 1 || r.Next < 0 || r.Records < 0 || r.Plan < 0:
		return u, 0, false, fmt.Errorf("pane history of %.100q: a number is out of range: %w", key, ErrPayload)
	}
	u.Sent = &Sent{Next: r.Next, Records: r.Records, Pending: r.Pending}
	if r.Results != "" {
		u.Sent.Results = []byte(r.Results)
	}
	for _, o := range r.Out {
		u.Sent.Out = append(u.Sent.Out, Out{window.Window{Start: o.StartMS, End: o.EndMS}, o.Index, o.Results})
	}
	if len(r.Pending) > 0 {
		if rest, err := p.composite.Skip(r.Pending); err != nil || len(rest) > 0 {
			return u, 0, false, fmt.Errorf("pane history of %.100q: its row is damaged: %w", key, ErrPayload)
		}
	}
	return u, r.Plan, true, nil
}
