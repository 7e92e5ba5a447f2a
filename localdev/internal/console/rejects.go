package console

import (
	"cmp"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

const (
	keepRejects = 100
	// mostReasons bounds the reasons that are counted apart: the set is closed, but a topic may be shared.
	mostReasons = 32
	// excerpt is how many bytes of a value are shown.
	excerpt = 300
)

// Reject is a record that went to the late or to the dead letter topic.
type Reject struct {
	Late       bool   `json:"late"` // else a dead letter
	Reason     string `json:"reason"`
	Topic      string `json:"topic"` // where it came from
	Partition  int64  `json:"partition"`
	Offset     int64  `json:"offset"`
	Detail     string `json:"detail"`
	Key        string `json:"key"`
	Value      string `json:"value"` // its beginning
	LatenessMS *int64 `json:"lateness_ms"`
	Plan       string `json:"plan"`
	TimeMS     int64  `json:"time_ms"` // Kafka timestamp of where it went to
}

// rejects are the last of them, and how many there were for each reason.
type rejects struct {
	last   ring[Reject]
	counts map[string]int64
}

func newRejects() rejects { return rejects{ring[Reject]{most: keepRejects}, map[string]int64{}} }

// Rejects is what was rejected: counts since the board began to look, and the last ones, newest first.
type Rejects struct {
	Counts []ReasonCount `json:"counts"` // the most frequent first
	Last   []Reject      `json:"last"`
}

// ReasonCount is how many records were rejected for a reason.
type ReasonCount struct {
	Reason string `json:"reason"`
	Count  int64  `json:"count"`
}

// Rejected takes a record of a late or dead letter topic. Nothing of it is kept.
func (b *Board) Rejected(rec *event.Record, late bool) {
	r := Reject{Late: late, Key: text(rec.Key), Value: text(rec.Value), TimeMS: int64(rec.Timestamp)}
	for _, h := range rec.Headers {
		v := string(h.Value[:min(len(h.Value), excerpt)])
		switch h.Key {
		case "tidemark-reason":
			r.Reason = v
		case "tidemark-topic":
			r.Topic = v
		case "tidemark-partition":
			r.Partition = number(v)
		case "tidemark-offset":
			r.Offset = number(v)
		case "tidemark-error":
			r.Detail = v
		case "tidemark-plan":
			r.Plan = v
		case "tidemark-lateness-ms":
			n := number(v)
			r.LatenessMS = &n
		}
	}
	if r.Reason == "" {
		return // the topic is shared with something else
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rejects.last.add(r)
	if _, ok := b.rejects.counts[r.Reason]; ok || len(b.rejects.counts) < mostReasons {
		b.rejects.counts[r.Reason]++
	}
	if b.s.Mode == ModeWatch {
		if late {
			b.s.Late++
		} else {
			b.s.DeadLetters++
		}
	}
	b.touch(SectionRejects)
}

// text is the beginning of what a record has, for people.
func text(v []byte) string {
	cut := ""
	if len(v) > excerpt {
		v, cut = v[:excerpt], "..."
		for i := 1; i < utf8.UTFMax && !utf8.Valid(v); i++ { // not in the middle of a letter
			v = v[:len(v)-1]
		}
	}
	if !utf8.Valid(v) {
		return strconv.QuoteToASCII(string(v)) + cut
	}
	return string(v) + cut
}

func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// Rejects returns what was rejected. The caller owns it.
func (b *Board) Rejects() Rejects {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := Rejects{Counts: []ReasonCount{}, Last: b.rejects.last.newest()}
	for reason, n := range b.rejects.counts {
		out.Counts = append(out.Counts, ReasonCount{reason, n})
	}
	slices.SortFunc(out.Counts, func(a, b ReasonCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Reason, b.Reason))
	})
	return out
}
