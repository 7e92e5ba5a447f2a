package recompute

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// published is what is wanted of a result record.
type published struct {
	Pipeline string `json:"pipeline"`
	Window   struct {
		Name    string     `json:"name"`
		StartMS event.Time `json:"start_ms"`
		EndMS   event.Time `json:"end_ms"`
	} `json:"window"`
	Key         string          `json:"key"`
	KeyEncoding string          `json:"key_encoding"`
	Pane        paneInfo        `json:"pane"`
	Results     json.RawMessage `json:"results"`
}

// paneInfo is what a result says of its place among the panes of its window.
type paneInfo struct {
	Revision   int64  `json:"revision"`
	Index      int64  `json:"index"`
	Supersedes []outs `json:"supersedes"`
	Retracts   []outs `json:"retracts"`
}

// outs names a pane that went out before.
type outs struct {
	StartMS event.Time      `json:"start_ms"`
	EndMS   event.Time      `json:"end_ms"`
	Index   int64           `json:"index"`
	Results json.RawMessage `json:"results"`
}

// pane is one published result of a window and key.
type pane struct {
	window.Window
	paneInfo
	revision int64
	at       Position
	results  []byte // JSON
}

// readPanes reads the result topic into a sorter, by window definition, key, window and revision. It returns the least revision
// of which everything is still in the topic; what was published by older plans may be gone.
func (j *job) readPanes(ctx context.Context, to *sorter) (oldest int64, err error) {
	parts, err := j.Log.Partitions(ctx, []string{j.pipe.SinkTopic})
	if err != nil {
		return 0, fmt.Errorf("result topic: %w", err)
	}
	defs := map[string]int{}
	for i := range j.pipe.Windows {
		defs[j.pipe.Windows[i].Name] = i
	}
	first := map[int32]int64{} // revision of the first record of each partition that begins above 0
	var key, value []byte
	err = readAll(ctx, j.Log, parts, j.tell("result topic"), func(tp event.TopicPartition, r *event.Record) error {
		var p published
		if err := json.Unmarshal(r.Value, &p); err != nil || p.Pipeline != j.pipe.Name {
			return nil //nolint:nilerr // the topic is shared with something else
		}
		j.out.Panes++
		if _, seen := first[tp.Partition]; !seen {
			first[tp.Partition] = p.Pane.Revision
		}
		if p.Pane.Revision > j.past.plan || j.past.takesOver != "" && p.Pane.Revision <= j.past.begins {
			return nil // newer than what is compared, or the pipeline's before
		}
		def, known := defs[p.Window.Name]
		group := []byte(p.Key)
		if p.KeyEncoding == "hex" {
			if group, err = hex.DecodeString(p.Key); err != nil {
				known = false
			}
		}
		at := Position{tp.Topic, tp.Partition, r.Offset}
		if !known || !bytes.Equal(group, r.Key) {
			j.out.differ(j.Most, &Difference{
				What: Unreadable, Window: p.Window.Name, Key: p.Key, Note: "its window is none of the pipeline's, or its key is not the record's", At: &at,
			})
			return nil
		}
		if j.pipe.Windows[def].Kind == window.KindGlobal { // it says neither start nor end
			p.Window.StartMS, p.Window.EndMS = event.MinTime, event.MaxTime
		}
		key = appendText(appendInt(key[:0], int64(def)), group)
		key = appendInt(appendInt(key, int64(p.Window.StartMS)), int64(p.Window.EndMS))
		key = appendInt(appendInt(appendInt(key, p.Pane.Revision), int64(tp.Partition)), r.Offset)
		info, err := json.Marshal(p.Pane)
		if err != nil {
			return err
		}
		value = append(appendText(value[:0], info), p.Results...)
		return to.add(key, value)
	})
	if err != nil {
		return 0, fmt.Errorf("result topic: %w", err)
	}
	return j.kept(ctx, first)
}

// kept looks at what retention has removed from the result topic.
func (j *job) kept(ctx context.Context, first map[int32]int64) (oldest int64, err error) {
	parts, err := j.Log.Partitions(ctx, []string{j.pipe.SinkTopic})
	if err != nil {
		return 0, err
	}
	tps := make([]event.TopicPartition, len(parts))
	for i, p := range parts {
		tps[i] = p.TopicPartition
	}
	offsets, err := j.Log.Offsets(ctx, tps)
	if err != nil {
		return 0, err
	}
	for _, tp := range tps {
		if offsets[tp].Start == 0 {
			continue
		}
		if revision, ok := first[tp.Partition]; ok {
			oldest = max(oldest, revision+1)
			j.out.leaveOut("results of plans up to %d that are missing: %s/%d begins at offset %d, which is of plan %d", revision, tp.Topic, tp.Partition, offsets[tp].Start, revision)
		} else {
			oldest = j.past.plan + 1
			j.out.leaveOut("results that are missing: %s/%d begins at offset %d and has none", tp.Topic, tp.Partition, offsets[tp].Start)
		}
	}
	return oldest, nil
}

// paneCursor goes through the panes of one window definition, by key and start.
type paneCursor struct {
	c   *cursor
	def int

	key  []byte // of next
	next *pane  // nil at the end of the definition's
}

func newPaneCursor(s *sorter, def int) (*paneCursor, error) {
	c, err := s.cursor()
	if err != nil {
		return nil, err
	}
	p := &paneCursor{c: c, def: def}
	for {
		d, err := p.advance()
		if err != nil || p.next == nil || d == def {
			return p, err
		}
	}
}

// advance goes to the next pane and returns its definition.
func (p *paneCursor) advance() (def int, err error) {
	p.next = nil
	k, value, ok, err := p.c.next()
	if err != nil || !ok {
		return 0, err
	}
	d := int64(binary.BigEndian.Uint64(k) ^ 1<<63)
	if int(d) > p.def {
		return int(d), nil
	}
	var x pane
	p.key, k = cutText(k[8:])
	x.Start, k = cutTime(k)
	x.End, k = cutTime(k)
	x.revision, k = cutInt(k)
	var part int64
	part, k = cutInt(k)
	x.at.Partition = int32(part)
	x.at.Offset, _ = cutInt(k)
	info, results := cutText(value)
	if err := json.Unmarshal(info, &x.paneInfo); err != nil {
		return 0, fmt.Errorf("pane of %q: %w", p.key, err)
	}
	x.results = bytes.Clone(results)
	p.next = &x
	return int(d), nil
}

// before reports whether the next pane is of a lower key, or of the same key and a window before w: one that begins, or ends, earlier.
func (p *paneCursor) before(key []byte, w window.Window) bool {
	if p.next == nil {
		return false
	}
	c := cmp.Or(bytes.Compare(p.key, key), cmp.Compare(p.next.Start, w.Start), cmp.Compare(p.next.End, w.End))
	return c < 0
}

// take returns the next pane and goes on.
func (p *paneCursor) take() (key []byte, x *pane, err error) {
	key, x = p.key, p.next
	_, err = p.advance()
	return key, x, err
}
