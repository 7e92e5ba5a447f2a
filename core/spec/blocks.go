package spec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

func (c *checker) readList(v *value) {
	f := v.field
	if v.node.kind != nodeList {
		hint := c.want(f, "")
		if v.node.kind == nodeString {
			hint = fmt.Sprintf("%s: [%s]", f.name, v.node.text)
		}
		c.mismatch(v, hint)
		return
	}
	first := map[string]place{}
	for i, n := range v.node.items {
		item := c.read(f.elem, n, v.path+"["+strconv.Itoa(i)+"]", n.place)
		if f.unique && !item.bad {
			key := item.str + strconv.FormatFloat(item.float, 'g', -1, 64)
			if before, ok := first[key]; ok {
				c.report(item, fmt.Sprintf("is given twice, first on line %d", before.line), n.got(), "remove one")
			} else {
				first[key] = n.place
			}
		}
		v.items = append(v.items, item)
		v.bad = v.bad || item.bad
	}
	c.length(v, "element")
}

// length checks how many elements a list or map has.
func (c *checker) length(v *value, what string) {
	b, n := v.field.bounds, int64(len(v.items))
	switch {
	case b == nil:
	case n < b.min && v.bad: // what is wrong with its elements is said
	case n < b.min:
		c.report(v, "must have at least "+count(b.min, what), "", c.want(v.field, "leave the key out for its default"))
	case n > b.max:
		c.report(v, "must have at most "+count(b.max, what), strconv.FormatInt(n, 10), c.want(v.field, ""))
		v.items = v.items[:b.max] // bounds what is made of it: values times functions times pipelines
		v.names = v.names[:min(len(v.names), len(v.items))]
	}
}

func (c *checker) readMap(v *value) {
	f := v.field
	if v.node.kind == nodeList && f.alt != nil {
		v.field = f.alt
		c.readList(v)
		return
	}
	if v.node.kind != nodeMap {
		c.mismatch(v, "")
		return
	}
	first := map[string]place{}
	for _, e := range v.node.entries {
		key := &value{place: e.place, field: f.elem, path: v.path + "." + e.key}
		if before, ok := first[e.key]; ok {
			c.report(key, fmt.Sprintf("is given twice, first on line %d", before.line), "", "remove one")
			v.bad = true
			continue
		}
		first[e.key] = e.place
		if message, hint := f.keys.check(e.key); message != "" {
			c.report(key, message, shown(e.key), hint)
			v.bad = true
			continue
		}
		item := c.read(f.elem, e.value, key.path, e.place)
		if item.line != e.line {
			item.place = e.place
		}
		v.names = append(v.names, e.key)
		v.items = append(v.items, item)
		v.bad = v.bad || item.bad
	}
	c.length(v, "key")
}

// readBlock reads a mapping whose keys are ours; v.node is nil or null for an absent one.
func (c *checker) readBlock(v *value) {
	f := v.field
	v.kids = make([]*value, len(f.fields))
	written := make([]string, len(f.fields)) // the spelling used, per field
	switch {
	case v.node == nil:
	case v.node.kind == nodeMap:
		for _, e := range v.node.entries {
			c.readEntry(v, e, written)
		}
	case v.node.kind == nodeString && f.short != "":
		c.readEntry(v, entry{v.node.place, f.short, v.node}, written)
	default:
		c.mismatch(v, "")
	}
	c.absentKids(v)
}

func (c *checker) readEntry(v *value, e entry, written []string) {
	key := &value{place: e.place, path: joinPath(v.path, e.key)}
	f, as := v.field.spelled(e.key)
	if f == nil {
		c.unknown(key, v.field, e.key)
		v.bad, v.strange = true, true
		return
	}
	at := indexOf(v.field.fields, f.name)
	if before := written[at]; before != "" {
		first := v.kids[at]
		if before == e.key {
			c.report(key, fmt.Sprintf("is given twice, first on line %d", first.line), "", "remove one")
		} else {
			c.report(key, fmt.Sprintf("is %s again, of line %d", before, first.line), e.value.got(), "keep one of them")
		}
		v.bad, first.bad = true, true
		return
	}
	written[at] = e.key
	switch f.status {
	case statusBuilt:
	case statusLater:
		c.later(key, e.key, "")
		v.bad = true
	case statusRefused:
		c.report(key, f.reason, "", "") // without the value, which may be a password
		v.bad = true
	}
	var kid *value
	if f.kind == kindDuration && e.value.kind != nodeNull {
		kid = &value{place: e.place, field: f, node: e.value, path: key.path}
		if c.readDuration(kid, as); kid.bad {
			kid.defaults()
		}
	} else {
		kid = c.read(f, e.value, key.path, e.place)
	}
	if kid.node != nil && kid.line != e.line {
		kid.place = e.place // the key, where the value begins on another line
	}
	v.kids[at] = kid
	v.bad = v.bad || kid.bad
}

// absentKids gives a block the defaults of what it does not have.
func (c *checker) absentKids(v *value) {
	if v.kids == nil {
		v.kids = make([]*value, len(v.field.fields))
	}
	for i := range v.field.fields {
		if v.kids[i] == nil {
			f := &v.field.fields[i]
			v.kids[i] = c.read(f, nil, joinPath(v.path, f.name), v.place)
		}
	}
}

func indexOf(fields []field, name string) int {
	for i := range fields {
		if fields[i].name == name {
			return i
		}
	}
	return -1
}

func joinPath(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// unknown reports a key that its block does not have, with the key that was probably meant: of this block, else the block
// that has a key of this name.
func (c *checker) unknown(key *value, block *field, name string) {
	plain := strings.ReplaceAll(name, ".", "_")
	if f, as := block.spelled(plain); f != nil {
		hint := "write " + as.name
		if f.status == statusRefused {
			hint = f.reason
		}
		c.report(key, "unknown key", "", hint)
		return
	}
	var names []string
	for i := range block.fields {
		if block.fields[i].status != statusBuilt {
			continue
		}
		for _, s := range block.fields[i].spellings() {
			names = append(names, s.name)
		}
	}
	var hint string
	if base := durationOf(block, plain); base != "" {
		hint = fmt.Sprintf("write %s in Go's syntax such as %s: 1m30s, or a number under %s_secs or %s_ms", base, base, base, base)
	} else if near := nearest(strings.ToLower(plain), names); near != "" {
		hint = "did you mean " + near + "?"
	} else if root := language(); root.find(plain) != nil {
		hint = "it belongs at the top level of the file"
	} else if home := homeOf(root, plain, ""); home != "" {
		hint = "it belongs under " + home
	} else {
		hint = "known here: " + strings.Join(builtNames(block), ", ")
	}
	c.report(key, "unknown key", "", hint)
}

// durationOf returns the duration of a block that a key gives a unit of its own: size for size_mins.
func durationOf(block *field, key string) string {
	units := []string{
		"ns", "us", "micros", "millis", "msec", "msecs", "milliseconds", "s", "sec", "seconds", "m", "min", "mins", "minutes", "h", "hour", "hours", "hrs",
		"d", "day", "days", "weeks",
	}
	for i := range block.fields {
		f := &block.fields[i]
		if unit, ok := strings.CutPrefix(key, f.name+"_"); ok && f.kind == kindDuration && slices.Contains(units, unit) {
			return f.name
		}
	}
	return ""
}

// homeOf returns the path of the first block that has a key of this name; "" if none has.
func homeOf(block *field, name, path string) string {
	for i := range block.fields {
		f := &block.fields[i]
		inner := f
		here := joinPath(path, f.name)
		if f.kind == kindList && f.elem.kind == kindBlock {
			inner, here = f.elem, here+"[]"
		}
		if inner.kind != kindBlock {
			continue
		}
		if found, _ := inner.spelled(name); found != nil && found.status == statusBuilt {
			return here
		}
		if home := homeOf(inner, name, here); home != "" {
			return home
		}
	}
	return ""
}

func builtNames(block *field) []string {
	var names []string
	for i := range block.fields {
		if block.fields[i].status == statusBuilt {
			names = append(names, block.fields[i].name)
		}
	}
	return names
}
