package expression

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/expr-lang/expr/ast"
)

// fieldMark begins the names of fields in a rewritten tree: so a field may be called as a function is (type, count).
const fieldMark = "."

// wholeRecord is the compiler's name of all variables together.
const wholeRecord = "$env"

// builtins are the functions of the language that are kept: they compute, in time and memory that their arguments bound.
func builtins() []string {
	return []string{
		"all", "any", "none", "one", "count", "filter", "find", "map", "sum", "len", "abs", "ceil", "floor", "round", "float", "trim", "trimPrefix", "trimSuffix",
		"upper", "lower", "split", "indexOf", "lastIndexOf", "hasPrefix", "hasSuffix", "max", "min", "mean", "median", "first", "last", "type",
	}
}

// own are the functions that are ours: string and int, since a number is a float64 here, and mod, which is %.
func own() []string { return []string{"string", "int", "mod"} }

// rewriter changes a tree before it is compiled, and finds what is refused. Nodes are visited after what they are made of.
//
// Names that lead to a field are joined to one name: attributes.tokens is one variable, which the record is searched for without
// a tree of it being built.
type rewriter struct{ problem *CompileError }

func (r *rewriter) refuse(node ast.Node, message, hint string) {
	if r.problem == nil {
		r.problem = &CompileError{Message: message, At: node.Location().From + 1, Hint: hint}
	}
}

// Visit is called for every node.
func (r *rewriter) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.IdentifierNode:
		if n.Value != wholeRecord {
			n.Value = fieldMark + n.Value
		}
	case *ast.MemberNode:
		r.member(node, n)
	case *ast.ChainNode:
		if id, ok := n.Node.(*ast.IdentifierNode); ok {
			ast.Patch(node, &ast.IdentifierNode{Value: id.Value})
		}
	case *ast.CallNode:
		r.call(n)
	case *ast.BuiltinNode:
		if !slices.Contains(builtins(), n.Name) {
			r.unknown(n, n.Name)
		}
	case *ast.BinaryNode:
		r.binary(node, n)
	case *ast.PredicateNode:
		ast.Walk(&n.Node, visit(r.loop))
	case *ast.VariableDeclaratorNode, *ast.SequenceNode:
		r.refuse(n, "declares a variable", "derive it, as a field of map")
	case *ast.BytesNode:
		r.refuse(n, "is a literal of bytes", `text is written "..."`)
	}
}

type visit func(*ast.Node)

// Visit is called for every node.
func (f visit) Visit(node *ast.Node) { f(node) }

// loop refuses what takes too long, or makes too much text, when it is done for each element of an array.
func (r *rewriter) loop(node *ast.Node) {
	const hint = "derive it, as a field of map"
	switch n := (*node).(type) {
	case *ast.PredicateNode:
		r.refuse(n, "is a loop inside of a loop, which has no bound", hint)
	case *ast.BuiltinNode:
		if n.Name == "split" {
			r.refuse(n, "splits text inside of a loop, which has no bound", hint)
		}
	case *ast.BinaryNode:
		switch n.Operator {
		case "+": // text may not be joined, and that is known of values only
			ast.Patch(node, &ast.CallNode{Callee: &ast.IdentifierNode{Value: "plus"}, Arguments: []ast.Node{n.Left, n.Right}})
		case "matches":
			ast.Walk(&n.Left, visit(func(x *ast.Node) {
				if _, ok := (*x).(*ast.IdentifierNode); ok {
					r.refuse(n, "matches more than the element inside of a loop, which has no bound", hint)
				}
			}))
		}
	}
}

// member joins a name to the field it is in.
func (r *rewriter) member(node *ast.Node, n *ast.MemberNode) {
	id, ok := n.Node.(*ast.IdentifierNode)
	if !ok {
		return
	}
	name, ok := n.Property.(*ast.StringNode)
	switch {
	case !ok && id.Value == wholeRecord:
		r.refuse(n, "names a field that is not known before the record is", `$env["user-id"]`)
	case !ok:
	case name.Value == "" || strings.Contains(name.Value, "."):
		r.refuse(n, fmt.Sprintf("names the field %q, and names with a dot, or without a letter, cannot be reached", name.Value), "names joined by dots, such as attributes.tokens")
	case id.Value == wholeRecord:
		ast.Patch(node, &ast.IdentifierNode{Value: fieldMark + name.Value})
	default:
		ast.Patch(node, &ast.IdentifierNode{Value: id.Value + "." + name.Value})
	}
}

// call lets our own functions through. What is called has been marked as a field by then.
func (r *rewriter) call(n *ast.CallNode) {
	id, ok := n.Callee.(*ast.IdentifierNode)
	if !ok {
		r.refuse(n, "calls what is not a function", "functions are "+strings.Join(functions(), ", "))
		return
	}
	name := strings.TrimPrefix(id.Value, fieldMark)
	if !slices.Contains(own(), name) {
		r.unknown(n, name)
		return
	}
	id.Value = name
}

func (r *rewriter) unknown(n ast.Node, name string) {
	message := name + " is not a function here"
	switch name {
	case "now", "date", "duration", "timezone":
		r.refuse(n, message+": results would not survive a replay", "event time is a field of the record: timestamp: {field: timestamp, unit: ms}")
	case "let", "reduce", "groupBy", "sortBy", "repeat", "replace", "join", "concat", "flatten":
		r.refuse(n, message+": its memory has no bound", "functions are "+strings.Join(functions(), ", "))
	default:
		r.refuse(n, message, "functions are "+strings.Join(functions(), ", "))
	}
}

func functions() []string {
	names := slices.Concat(builtins(), own())
	slices.Sort(names)
	return names
}

func (r *rewriter) binary(node *ast.Node, n *ast.BinaryNode) {
	switch n.Operator {
	case "..":
		r.refuse(n, "is a range, which has no bound", "status >= 200 and status < 300")
	case "matches":
		if _, ok := n.Right.(*ast.StringNode); !ok {
			r.refuse(n.Right, "is a regular expression that is not known before the record is", `model matches "^gpt-[0-9]+"`)
		}
	case "in":
		if list, ok := n.Right.(*ast.ArrayNode); ok {
			constant(&n.Right, list)
		}
	case "%":
		ast.Patch(node, &ast.CallNode{Callee: &ast.IdentifierNode{Value: "mod"}, Arguments: []ast.Node{n.Left, n.Right}})
	case "+", "-", "*", "/", "**", "^":
		decimal(&n.Left)
		decimal(&n.Right)
	}
}

// decimal makes a whole number of an operation a float64: integers would wrap around where they are too large.
func decimal(node *ast.Node) {
	if n, ok := (*node).(*ast.IntegerNode); ok {
		ast.Patch(node, &ast.FloatNode{Value: float64(n.Value)})
	}
}

// constant makes a list of literals a constant, which takes values of any kind to be looked for.
func constant(node *ast.Node, list *ast.ArrayNode) {
	values := make([]any, len(list.Nodes))
	for i, x := range list.Nodes {
		switch x := x.(type) {
		case *ast.IntegerNode:
			values[i] = float64(x.Value)
		case *ast.FloatNode:
			values[i] = x.Value
		case *ast.StringNode:
			values[i] = x.Value
		case *ast.BoolNode:
			values[i] = x.Value
		case *ast.NilNode:
		default:
			return
		}
	}
	ast.Patch(node, &ast.ConstantNode{Value: values})
}

// What resultOf knows of a result.
const (
	aBool   = "true or false"
	aNumber = "a number"
	aString = "a string"
	aList   = "a list"
	aMap    = "a mapping"
)

// resultOf returns what an expression results in for every record for which it has a result; "" where that is not known.
func resultOf(node ast.Node) string {
	switch n := node.(type) {
	case *ast.NilNode:
		return "nil"
	case *ast.ConditionalNode:
		if one, other := resultOf(n.Exp1), resultOf(n.Exp2); one == other {
			return one
		}
		return ""
	case *ast.BinaryNode:
		if slices.Contains([]string{"-", "*", "/", "**", "^"}, n.Operator) {
			return aNumber
		}
	case *ast.UnaryNode:
		if n.Operator == "-" || n.Operator == "+" {
			return aNumber
		}
	}
	switch kind := node.Type().Kind(); {
	case kind == reflect.Bool:
		return aBool
	case kind == reflect.Int, kind == reflect.Float64:
		return aNumber
	case kind == reflect.String:
		return aString
	case kind == reflect.Slice, kind == reflect.Array:
		return aList
	case kind == reflect.Map:
		return aMap
	}
	return ""
}
