package console

import (
	"encoding/json"
	"fmt"
)

const (
	keepPlans = 60
	// mostBooked bounds the pipelines and partitions whose books are remembered.
	mostBooked = 20_000
)

// Plan is a record of the ledger: a plan, and the books of its pipeline after it. Counts are totals since the genesis, over all
// partitions.
type Plan struct {
	Pipeline    string `json:"pipeline"`
	Plan        int64  `json:"plan"`
	WatermarkMS *int64 `json:"watermark_ms"`
	Timestamp   string `json:"timestamp"`
	HeldBy      string `json:"held_by"`
	Note        string `json:"note,omitempty"` // of a hand-over
	Partitions  int    `json:"partitions"`
	Books
	Unaccounted int64 `json:"unaccounted"` // In less all others: always 0
}

// Books say what became of the records.
type Books struct {
	In         int64 `json:"in"`
	Open       int64 `json:"open"`
	Final      int64 `json:"final"`
	Late       int64 `json:"late"`
	Dead       int64 `json:"dead"`
	Skipped    int64 `json:"skipped"`
	Filtered   int64 `json:"filtered"`
	Unassigned int64 `json:"unassigned"`
}

func (b *Books) add(o Books) {
	b.In, b.Open, b.Final, b.Late, b.Dead = b.In+o.In, b.Open+o.Open, b.Final+o.Final, b.Late+o.Late, b.Dead+o.Dead
	b.Skipped, b.Filtered, b.Unassigned = b.Skipped+o.Skipped, b.Filtered+o.Filtered, b.Unassigned+o.Unassigned
}

func (b *Books) unaccounted() int64 {
	return b.In - b.Open - b.Final - b.Late - b.Dead - b.Skipped - b.Filtered - b.Unassigned
}

// ledger has the last plans, and the books of each partition by its newest record.
type ledger struct {
	last  ring[Plan]
	books map[string]map[string]Books // by group, then by partition
	size  int
}

func newLedger() ledger { return ledger{ring[Plan]{most: keepPlans}, map[string]map[string]Books{}, 0} }

// Booked takes the value of a ledger record, whose key is the group of its pipeline.
func (b *Board) Booked(group string, value []byte) {
	var e struct {
		Plan
		TakesOver  string `json:"takes_over"`
		EndedBy    string `json:"ended_by"`
		Refused    string `json:"refused"`
		Partitions []struct {
			Topic     string `json:"topic"`
			Partition int32  `json:"partition"`
			Books
		} `json:"partitions"`
	}
	if err := json.Unmarshal(value, &e); err != nil || e.Refused != "" {
		return // no record of a plan
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	l := &b.ledger
	mine := l.books[group]
	if mine == nil {
		if l.size >= mostBooked {
			return
		}
		l.size++
		mine = map[string]Books{}
		l.books[group] = mine
	}
	for _, p := range e.Partitions {
		name := fmt.Sprintf("%s/%d", p.Topic, p.Partition)
		if _, ok := mine[name]; !ok {
			if l.size >= mostBooked {
				continue
			}
			l.size++
		}
		mine[name] = p.Books
	}
	plan := e.Plan
	plan.Books, plan.Partitions = Books{}, len(mine)
	for _, p := range mine {
		plan.Books.add(p)
	}
	plan.Unaccounted = plan.Books.unaccounted()
	switch {
	case e.EndedBy != "":
		plan.Note = "ended: " + e.EndedBy + " took over"
	case e.TakesOver != "":
		plan.Note = "took over from " + e.TakesOver
	}
	l.last.add(plan)
	if b.s.Mode == ModeWatch {
		b.s.Plans++
	}
	b.touch(SectionLedger)
}

// Ledger returns the last plans, newest first. The caller owns them.
func (b *Board) Ledger() []Plan {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ledger.last.newest()
}
