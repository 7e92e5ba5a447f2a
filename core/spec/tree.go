package spec

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// The bounds of a file. The parser's time grows with the square of the number of keys and with the depth, so both are
// checked on the tokens, before it runs. A hundred pipelines are about 10,000 tokens, 7 levels deep.
const (
	mostBytes  = 1 << 20
	mostTokens = 20_000
	mostDepth  = 32
)

// nodeKind is the kind of a YAML value.
type nodeKind uint8

const (
	nodeNull nodeKind = iota + 1
	nodeBool
	nodeInt
	nodeFloat
	nodeString
	nodeList
	nodeMap
)

// String returns the kind as a reader of a message knows it.
func (k nodeKind) String() string {
	switch k {
	case nodeNull:
		return "nothing"
	case nodeBool:
		return "true or false"
	case nodeInt:
		return "an integer"
	case nodeFloat:
		return "a number"
	case nodeString:
		return "a string"
	case nodeList:
		return "a list"
	case nodeMap:
		return "a mapping"
	}
	return fmt.Sprintf("nodeKind(%d)", uint8(k))
}

// place is where something is written. Line 0 is nowhere.
type place struct{ line, column int }

// node is one YAML value with its place: the plain part of YAML, without anchors, aliases, tags and merge keys.
type node struct {
	place
	kind    nodeKind
	text    string // scalars: as written, without quotes
	integer int64
	float   float64 // integers too
	flag    bool
	items   []*node
	entries []entry // in the order of the file; keys may repeat
}

// entry is one key of a mapping.
type entry struct {
	place
	key   string
	value *node
}

// got says what a node is, for a message.
func (n *node) got() string {
	switch n.kind {
	case nodeNull:
		return "nothing"
	case nodeList, nodeMap:
		return n.kind.String()
	case nodeString:
		if n.text == "" {
			return `""`
		}
	case nodeBool, nodeInt, nodeFloat:
	}
	return shown(n.text)
}

// syntaxError is a place where the file is not YAML, or not the plain part of it.
type syntaxError struct {
	place
	message, value, hint string
}

func (e *syntaxError) Error() string { return e.message }

// readTree reads a file. A file without content is a mapping without entries. The error is a *syntaxError.
func readTree(data []byte) (*node, error) {
	if len(data) > mostBytes {
		return nil, &syntaxError{place{1, 1}, "the file is longer than 1 MiB", strconv.Itoa(len(data)) + " bytes", "is it a spec?"}
	}
	if !utf8.Valid(data) {
		return nil, notUTF8(data)
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	file, err := parse(string(data))
	if err != nil {
		return nil, err
	}
	var root *node
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		n, err := convert(doc.Body)
		if err != nil {
			return nil, err
		}
		if root != nil {
			return nil, &syntaxError{n.place, "a second YAML document", "", "a spec is one document: remove the ---"}
		}
		root = n
	}
	if root == nil {
		root = &node{place: place{1, 1}, kind: nodeMap}
	}
	return root, nil
}

func notUTF8(data []byte) error {
	at, line := 0, 1
	for at < len(data) {
		r, size := utf8.DecodeRune(data[at:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		if r == '\n' {
			line++
		}
		at += size
	}
	return &syntaxError{place{line, 1}, "not UTF-8", fmt.Sprintf("byte 0x%02x", data[at]), "save the file as UTF-8"}
}

// parse runs the YAML library behind the bounds of this package.
func parse(text string) (file *ast.File, err error) {
	defer func() {
		// The parser indexes tokens of files that nobody writes; a spec may come from anywhere, and reading it must not
		// end the process.
		if r := recover(); r != nil {
			file, err = nil, &syntaxError{place: place{1, 1}, message: fmt.Sprintf("cannot be read as YAML: %v", r)}
		}
	}()
	tokens := lexer.Tokenize(text)
	if err := plain(tokens); err != nil {
		return nil, err
	}
	file, err = parser.Parse(tokens, 0, parser.AllowDuplicateMapKey()) // duplicates are found later, all at once
	if err == nil {
		return file, nil
	}
	found := &syntaxError{place: place{1, 1}, message: "cannot be read as YAML: " + err.Error()}
	if known, ok := errors.AsType[yaml.Error](err); ok {
		found.message = "cannot be read as YAML: " + known.GetMessage()
		if at := known.GetToken(); at != nil {
			found.place = placeOf(at)
		}
	}
	return nil, found
}

// plain refuses what the parser must not see: too much, too deep, and the parts of YAML that let a short file stand for a
// long one or that have no meaning in a spec.
func plain(tokens token.Tokens) error {
	if len(tokens) > mostTokens {
		return &syntaxError{placeOf(tokens[mostTokens]), "the file has more than 20,000 keys, values and comments", "", "split it into apps"}
	}
	flow := 0
	var columns []int // of the open block collections
	for i, t := range tokens {
		at := placeOf(t)
		switch t.Type { //nolint:exhaustive // all other tokens are plain
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			return &syntaxError{at, "anchors, aliases and merge keys are not read", shown(t.Value), "write the value out"}
		case token.TagType, token.DirectiveType:
			return &syntaxError{at, "tags and directives are not read", shown(t.Value), "leave it out"}
		case token.MappingKeyType:
			return &syntaxError{at, "explicit keys are not read", "?", "write KEY: VALUE"}
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow = max(0, flow-1)
		case token.SequenceEntryType, token.MappingValueType:
			if flow > 0 {
				break
			}
			column := at.column
			if t.Type == token.MappingValueType && i > 0 {
				column = placeOf(tokens[i-1]).column
			}
			for len(columns) > 0 && columns[len(columns)-1] >= column {
				columns = columns[:len(columns)-1]
			}
			columns = append(columns, column)
		}
		if flow+len(columns) > mostDepth {
			return &syntaxError{at, "nested too deep", "", "a spec has at most 8 levels"}
		}
	}
	return nil
}

func placeOf(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{1, 1}
	}
	return place{max(1, t.Position.Line), max(1, t.Position.Column)}
}

// convert copies the library's tree into ours. The depth is bounded by plain.
func convert(from ast.Node) (*node, error) {
	n := &node{place: placeOf(from.GetToken())}
	switch v := from.(type) {
	case *ast.NullNode:
		n.kind = nodeNull
	case *ast.BoolNode:
		n.kind, n.flag, n.text = nodeBool, v.Value, v.Token.Value
	case *ast.IntegerNode:
		n.text = v.Token.Value
		switch i := v.Value.(type) {
		case int64:
			n.kind, n.integer, n.float = nodeInt, i, float64(i)
		case uint64:
			n.kind, n.integer, n.float = nodeInt, int64(min(i, math.MaxInt64)), float64(i) // the float is what is compared with bounds
		default:
			n.kind = nodeString
		}
	case *ast.FloatNode:
		n.kind, n.float, n.text = nodeFloat, v.Value, v.Token.Value
	case *ast.InfinityNode:
		n.kind, n.float, n.text = nodeFloat, v.Value, v.Token.Value
	case *ast.NanNode:
		n.kind, n.text = nodeString, v.Token.Value // no key takes it, and NaN passes every comparison with a bound
	case *ast.StringNode:
		n.kind, n.text = nodeString, v.Value
	case *ast.LiteralNode:
		n.kind, n.text = nodeString, v.Value.Value
	case *ast.SequenceNode:
		n.kind = nodeList
		for _, item := range v.Values {
			c, err := convert(item)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, c)
		}
	case *ast.MappingNode:
		return convertMapping(n, v.Values)
	case *ast.MappingValueNode:
		return convertMapping(n, []*ast.MappingValueNode{v})
	default:
		return nil, &syntaxError{n.place, "not read in a spec: " + from.Type().String(), "", "use strings, numbers, true, false, lists and mappings"}
	}
	return n, nil
}

func convertMapping(n *node, values []*ast.MappingValueNode) (*node, error) {
	n.kind = nodeMap
	for i, v := range values {
		at := placeOf(v.Key.GetToken())
		if i == 0 && n.line == at.line {
			n.column = min(n.column, at.column) // the library points at the colon
		}
		key, ok := v.Key.(ast.ScalarNode)
		if !ok {
			return nil, &syntaxError{at, "a key must be a plain word", "", "write KEY: VALUE"}
		}
		value, err := convert(v.Value)
		if err != nil {
			return nil, err
		}
		n.entries = append(n.entries, entry{at, key.GetToken().Value, value})
	}
	return n, nil
}
