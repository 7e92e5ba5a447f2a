package pipeline

import (
	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
)

// table holds the groups of a slice.
type table struct {
	at     map[string]int32
	keys   []string
	rows   []aggregate.Row
	gained []bool          // the group has records that no plan had before
	had    []bool          // it has records that the plan before had
	news   []aggregate.Row // the records that no plan had before, where they are kept apart from rows
	apart  bool
}

func newTable() *table { return &table{at: map[string]int32{}} }

// newTable returns a table of what panes are made of: where they discard, with news apart.
func (f *Firing) newTable() *table {
	t := newTable()
	t.apart = f.p.discards()
	return t
}

// merge adds the groups of another table.
func (t *table) merge(c *aggregate.Composite, o *table) {
	for k, key := range o.keys {
		at := t.row(c, []byte(key))
		t.gained[at], t.had[at] = t.gained[at] || o.gained[k], t.had[at] || o.had[k]
		c.Merge(&t.rows[at], &o.rows[k])
		if t.apart {
			c.Merge(&t.news[at], &o.news[k])
		}
	}
}

// arrange arranges all rows: panes are evaluated, and merged into those of other windows, in no fixed order.
func (t *table) arrange(c *aggregate.Composite) {
	for i := range t.rows {
		c.Arrange(&t.rows[i])
	}
	for i := range t.news {
		c.Arrange(&t.news[i])
	}
}

func (t *table) row(c *aggregate.Composite, key []byte) int32 {
	if i, ok := t.at[string(key)]; ok {
		return i
	}
	i := int32(len(t.keys))
	s := string(key)
	t.at[s] = i
	t.keys = append(t.keys, s)
	t.rows = append(t.rows, aggregate.Row{})
	t.gained, t.had = append(t.gained, false), append(t.had, false)
	c.Reset(&t.rows[i])
	if t.apart {
		t.news = append(t.news, aggregate.Row{})
		c.Reset(&t.news[i])
	}
	return i
}
