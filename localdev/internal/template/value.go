package template

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// kind is what a value is.
type kind uint8

const (
	kindNull kind = iota
	kindText      // a scalar: numbers and booleans are kept as they are written
	kindList
	kindMap
)

// value is a piece of a template with its place. The short forms of functions (!Ref X) are read as the long ones ({Ref: X}).
type value struct {
	line int // from 1
	kind kind
	text string
	list []*value
	keys []string // of fields, in the order of the file
	kids map[string]*value
}

// at returns what lies under a path of keys, or nil.
func (v *value) at(path ...string) *value {
	for _, key := range path {
		if v == nil || v.kind != kindMap {
			return nil
		}
		v = v.kids[key]
	}
	return v
}

// put adds or replaces a field.
func (v *value) put(key string, kid *value) {
	if _, ok := v.kids[key]; !ok {
		v.keys = append(v.keys, key)
	}
	v.kids[key] = kid
}

// string returns the text of a scalar, "" for everything else.
func (v *value) string() string {
	if v == nil || v.kind != kindText {
		return ""
	}
	return v.text
}

// number returns the whole number of a scalar, or absent where there is none.
func (v *value) number(absent int) int {
	n, err := strconv.Atoi(v.string())
	if err != nil {
		return absent
	}
	return n
}

// strings returns the texts of a list.
func (v *value) strings() []string {
	if v == nil {
		return nil
	}
	var out []string
	for _, e := range v.list {
		out = append(out, e.string())
	}
	return out
}

func (v *value) place() int {
	if v == nil {
		return 0
	}
	return v.line
}

func text(line int, s string) *value { return &value{line: line, kind: kindText, text: s} }

func list(line int, elements ...*value) *value {
	return &value{line: line, kind: kindList, list: elements}
}

func object(line int) *value { return &value{line: line, kind: kindMap, kids: map[string]*value{}} }

func call(line int, name string, argument *value) *value {
	v := object(line)
	v.put(name, argument)
	return v
}

// parse reads one YAML document.
func parse(data []byte) (*value, error) {
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		return nil, fmt.Errorf("%w: want one YAML document, have %d", ErrMalformed, len(file.Docs))
	}
	v, err := read(file.Docs[0].Body, 0)
	if err != nil {
		return nil, err
	}
	if v.kind != kindMap {
		return nil, fmt.Errorf("%w: want a mapping with Resources", ErrMalformed)
	}
	return v, nil
}

// deepest is how deep a template may be nested.
const deepest = 100

func read(n ast.Node, depth int) (*value, error) {
	line := 0
	if n != nil && n.GetToken() != nil && n.GetToken().Position != nil {
		line = n.GetToken().Position.Line
	}
	if depth > deepest {
		return nil, fmt.Errorf("%w: line %d: nested more than %d deep", ErrMalformed, line, deepest)
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		return readMap(n.Values, line, depth)
	case *ast.MappingValueNode:
		return readMap([]*ast.MappingValueNode{n}, line, depth)
	case *ast.SequenceNode:
		v := list(line)
		for _, e := range n.Values {
			kid, err := read(e, depth+1)
			if err != nil {
				return nil, err
			}
			v.list = append(v.list, kid)
		}
		return v, nil
	case *ast.TagNode:
		return readTag(n, line, depth)
	case *ast.NullNode, nil:
		return &value{line: line}, nil
	case *ast.LiteralNode:
		return text(line, n.Value.Value), nil
	case *ast.StringNode:
		return text(line, n.Value), nil
	case ast.ScalarNode:
		return text(line, n.GetToken().Value), nil
	}
	return nil, fmt.Errorf("%w: line %d: %s cannot stand in a template", ErrMalformed, line, n.Type())
}

func readMap(values []*ast.MappingValueNode, line, depth int) (*value, error) {
	v := object(line)
	for _, field := range values {
		kid, err := read(field.Value, depth+1)
		if err != nil {
			return nil, err
		}
		key := field.Key.GetToken().Value
		if _, twice := v.kids[key]; twice {
			return nil, fmt.Errorf("%w: line %d: %s is there twice", ErrMalformed, kid.line, key)
		}
		if kid.kind == kindText || kid.line == 0 {
			kid.line = field.Key.GetToken().Position.Line
		}
		v.put(key, kid)
	}
	return v, nil
}

// readTag gives a short form its long one.
func readTag(n *ast.TagNode, line, depth int) (*value, error) {
	argument, err := read(n.Value, depth+1)
	if err != nil {
		return nil, err
	}
	switch name := strings.TrimPrefix(n.Start.Value, "!"); name {
	case "Ref", "Condition":
		return call(line, name, argument), nil
	case "GetAtt":
		if argument.kind == kindText {
			resource, attribute, _ := strings.Cut(argument.text, ".")
			argument = list(line, text(line, resource), text(line, attribute))
		}
		return call(line, "Fn::GetAtt", argument), nil
	default:
		return call(line, "Fn::"+name, argument), nil
	}
}
