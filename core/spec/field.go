package spec

import (
	"fmt"
	"time"
)

// A field is one key of the language. The table of all of them (fields.go) is the only description of the language: the
// strict loader, the defaults, the builder's ranges and the JSON Schema are read from it.
type field struct {
	name    string
	kind    kind
	format  format // of strings
	doc     string // one sentence or two; the unit where there is one
	def     any    // string, int, float64, bool, time.Duration, []string or []float64; nil: see absent
	absent  string // what holds where the key is absent and def is nil
	example string // as written in YAML flow style that is JSON too; empty where the default is one
	with    string // keys beside it that the example needs, as written in YAML: "type: session"
	unit    string // of numbers
	within  string // bounds that other code knows, for the reference
	enum    []string
	alias   map[string]string // other spellings of members of enum
	later   []string          // members of the language that are not built yet
	fixes   map[string]string // values that people expect and that are refused: why, and what is right
	bounds  *bounds           // of numbers; of durations in milliseconds; of lists and maps their length
	limits  *limits           // of numbers that are not whole, instead of bounds
	word    string            // durations: the word that is not a length of time, read as wordMs
	wordMs  int64
	unique  bool    // lists: an element may not be given twice
	elem    *field  // lists and maps: what they hold
	keys    format  // maps: what their keys look like
	fields  []field // blocks
	alt     *field  // another shape: taken when the value is a list (of a map), or a mapping (of a string)
	short   string  // blocks: the key that a string alone is the value of
	shared  bool    // blocks: in more than one place of the language; the schema defines it once
	status  status
	reason  string // statusRefused: why, and where it applies
}

// kind is the kind of value that a field takes.
type kind uint8

const (
	kindString kind = iota + 1
	kindInt
	kindNumber
	kindBool
	kindDuration // three spellings: NAME (Go syntax), NAME_secs, NAME_ms
	kindList
	kindMap   // keys are the user's
	kindBlock // keys are ours
	kindAny   // not looked into
)

// String returns what the field wants, for a message.
func (k kind) String() string {
	switch k {
	case kindString:
		return "a string"
	case kindInt:
		return "an integer"
	case kindNumber:
		return "a number"
	case kindBool:
		return "true or false"
	case kindDuration:
		return "a duration"
	case kindList:
		return "a list"
	case kindMap, kindBlock:
		return "a mapping"
	case kindAny:
		return "anything"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// status says whether a field can be used.
type status uint8

const (
	statusBuilt   status = iota // zero: nearly all
	statusLater                 // part of the language, not built yet
	statusRefused               // known from elsewhere; the reason says where it applies
)

// bounds are inclusive.
type bounds struct{ min, max int64 }

// limits are inclusive.
type limits struct{ min, max float64 }

// between bounds a number, a length or, in milliseconds, a duration.
func between(least, most int64) *bounds { return &bounds{least, most} }

// lasting bounds a duration.
func lasting(least, most time.Duration) *bounds {
	return &bounds{least.Milliseconds(), most.Milliseconds()}
}

// find returns the field of a block by its base name, or nil.
func (f *field) find(name string) *field {
	for i := range f.fields {
		if f.fields[i].name == name {
			return &f.fields[i]
		}
	}
	return nil
}

// at returns the field at a path of base names; the elements of lists and maps are transparent. The path is in the table.
func (f *field) at(path ...string) *field {
	for _, name := range path {
		for f.elem != nil {
			f = f.elem
		}
		f = f.find(name)
	}
	return f
}

// spelling is one way to write a field.
type spelling struct {
	name string
	unit time.Duration // of the number; 0: Go syntax, or not a duration
}

func (f *field) spellings() []spelling {
	if f.kind != kindDuration {
		return []spelling{{f.name, 0}}
	}
	return []spelling{{f.name, 0}, {f.name + "_secs", time.Second}, {f.name + "_ms", time.Millisecond}}
}

// spelled returns the field of a block that key is a spelling of, and the spelling.
func (f *field) spelled(key string) (*field, spelling) {
	for i := range f.fields {
		for _, s := range f.fields[i].spellings() {
			if s.name == key {
				return &f.fields[i], s
			}
		}
	}
	return nil, spelling{}
}
