// Package expression compiles and evaluates what a spec says over the fields of one record: which records count (where), fields
// that are derived from others (map), and what records are grouped by. The language is that of expr-lang/expr without what would
// not survive a replay (clocks, time zones, the order of maps) and what has no bound (variables, ranges, loops inside of loops).
package expression

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/vm"
)

// Bounds. Together they bound the time and memory of one evaluation, whatever the record.
const (
	MaxSourceBytes = 4096     // of an expression as written
	maxNodes       = 200      // operators, names, numbers and so on of one expression
	MaxFieldBytes  = 64 << 10 // of a field that an expression names, and of a result
	maxElements    = 1000     // of an array that an expression names
	memoryBudget   = 100_000  // elements of arrays that one evaluation makes
)

// Kind is the kind of result that is asked for.
type Kind uint8

// The kinds.
const (
	Bool   Kind = iota + 1 // true or false, nothing else
	Scalar                 // a string, a finite number, true, false or nil
)

// String names the kind in messages.
func (k Kind) String() string {
	switch k {
	case Bool:
		return "true or false"
	case Scalar:
		return "a string, a number, true or false"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// CompileError is what is wrong with an expression, found before any record is.
type CompileError struct {
	Message string // what is wrong
	At      int    // where, in characters from 1; 0: the whole of it
	Hint    string // what would be right; may be empty
}

// Error returns the message, and where.
func (p *CompileError) Error() string {
	if p.At == 0 {
		return p.Message
	}
	return fmt.Sprintf("%s (character %d)", p.Message, p.At)
}

// Expression is a compiled expression. It is immutable and safe for concurrent use.
type Expression struct {
	source  string
	kind    Kind
	program *vm.Program
	paths   []string
	alias   bool
}

// Compile compiles an expression. Every error is a *CompileError.
//
// A name is a field of the record, and names joined by dots lead into objects; a field that is missing, on whatever level, is nil.
// $env["user-id"] reaches names that are no words. Numbers are float64.
func Compile(source string, kind Kind) (*Expression, error) {
	if len(source) > MaxSourceBytes {
		return nil, &CompileError{Message: fmt.Sprintf("has %d bytes, at most %d are possible", len(source), MaxSourceBytes), Hint: "derive parts of it, as fields of map"}
	}
	if strings.TrimSpace(source) == "" {
		return nil, &CompileError{Message: "is empty", Hint: example(kind)}
	}
	r := &rewriter{}
	program, err := expr.Compile(source, optionsOf(r)...)
	if r.problem != nil {
		return nil, r.problem
	}
	if err != nil {
		return nil, problemOf(source, kind, err)
	}
	e := &Expression{source: source, kind: kind, program: program}
	node := program.Node()
	if got := resultOf(node); got != "" && !strings.Contains(kind.String(), got) {
		return nil, &CompileError{Message: fmt.Sprintf("is %s, not %s", got, kind), Hint: example(kind)}
	}
	if id, ok := node.(*ast.IdentifierNode); ok && id.Value != wholeRecord {
		e.paths, e.alias = []string{id.Value[len(fieldMark):]}, true
		return e, nil
	}
	names := &namer{}
	ast.Walk(&node, names)
	if names.whole != nil {
		return nil, &CompileError{Message: "names the whole record", At: names.whole.Location().From + 1, Hint: `names of fields, such as attributes.tokens, or $env["user-id"]`}
	}
	slices.Sort(names.paths)
	e.paths = slices.Compact(names.paths)
	return e, nil
}

func example(kind Kind) string {
	if kind == Bool {
		return `for example metric == "latency_ms"`
	}
	return "for example tokens * 0.002, or lower(model)"
}

// IsName reports whether an expression can call a field by that name: it is no word of the language.
func IsName(name string) bool {
	e, err := Compile(name, Scalar)
	return err == nil && e.alias && e.paths[0] == name && !strings.Contains(name, ".")
}

// Source returns the text that was compiled.
func (e *Expression) Source() string { return e.source }

// Paths returns the fields that the expression reads, as dotted paths, sorted. The slice is the expression's own.
func (e *Expression) Paths() []string { return e.paths }

// Alias reports whether the expression is the name of one field and nothing else: its result is the field as it is.
func (e *Expression) Alias() bool { return e.alias }

// optionsOf configures the compiler: the language without what Package says.
func optionsOf(r *rewriter) []expr.Option {
	options := []expr.Option{
		expr.Env(map[string]any{}), expr.AllowUndefinedVariables(), expr.MaxNodes(maxNodes), expr.DisableAllBuiltins(), expr.Patch(r),
		expr.Function("string", asString, new(func(any) string)),
		expr.Function("int", asInteger, new(func(any) float64)),
		expr.Function("mod", modulo, new(func(any, any) float64)),
		expr.Function("plus", plus, new(func(any, any) float64)),
	}
	for _, name := range builtins() {
		options = append(options, expr.EnableBuiltin(name))
	}
	return options
}

// problemOf turns what the compiler says into a problem of one line.
func problemOf(source string, kind Kind, err error) *CompileError {
	p := &CompileError{Message: err.Error(), Hint: slip(source)}
	if at, ok := errors.AsType[*file.Error](err); ok {
		p.Message, p.At = at.Message, at.From+1
	}
	p.Message = plain(p.Message)
	if p.Hint == "" {
		p.Hint = example(kind)
	}
	return p
}

// plain says in words of the language what the compiler and the machine say of Go's types.
func plain(message string) string {
	message, _, _ = strings.Cut(message, "\n")
	if rest, ok := strings.CutPrefix(message, "interface conversion: interface {} is "); ok {
		return "is " + strings.NewReplacer("float64", "number", "[]interface {}", "list", "map[string]interface {}", "mapping").Replace(rest)
	}
	if strings.HasPrefix(message, "invalid operation: ") || strings.HasPrefix(message, "invalid argument ") {
		return strings.NewReplacer("float64", "number", " int", " number", "<nil>", "nil", "[]interface {}", "list", "map[string]interface {}", "mapping").Replace(message)
	}
	return strings.NewReplacer("<nil>", "nil", "unexpected token EOF", "ends too early").Replace(message)
}

// slip recognises what people write who come from another language.
func slip(source string) string {
	upper := strings.ToUpper(source)
	switch {
	case strings.Contains(upper, " IS NULL"), strings.Contains(upper, " IS NOT NULL"):
		return "a missing field is nil: tokens == nil, tokens != nil"
	case strings.Contains(upper, " LIKE "):
		return `contains, startsWith, endsWith, or matches with a regular expression`
	case strings.Contains(source, "<>"):
		return "!= is the operator"
	case strings.Contains(source, " AND "), strings.Contains(source, " OR "), strings.Contains(source, "NOT "):
		return "and, or, not are written in lower case"
	case strings.Contains(source, " = "):
		return "== compares"
	case strings.HasSuffix(source, ",") || strings.HasSuffix(source, "("):
		return "what follows # is a comment of YAML: an expression with # is written in quotes"
	}
	return ""
}

// namer gathers the fields that an expression names.
type namer struct {
	paths []string
	whole ast.Node // where it names them all
}

// Visit is called for every node.
func (n *namer) Visit(node *ast.Node) {
	switch id, ok := (*node).(*ast.IdentifierNode); {
	case !ok:
	case id.Value == wholeRecord:
		n.whole = id
	case strings.HasPrefix(id.Value, fieldMark):
		n.paths = append(n.paths, id.Value[len(fieldMark):])
	}
}
