package expression

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/vm"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// ErrEvaluate is wrapped by all errors of an evaluation: the expression has no result of the kind asked for with this record, and
// will never have.
var ErrEvaluate = errors.New("expression: no result")

// Evaluator evaluates one expression for one record after the other. It keeps its memory; it is not safe for concurrent use.
type Evaluator struct {
	e       *Expression
	machine vm.VM
	env     map[string]any
	held    []held
}

// held is the value of a field as the expression sees it, kept for the next record: most have the same.
type held struct {
	name string
	kind event.FieldKind
	raw  []byte
}

// NewEvaluator returns an evaluator of the expression.
func (e *Expression) NewEvaluator() *Evaluator {
	v := &Evaluator{e: e, machine: vm.VM{MemoryBudget: memoryBudget}, env: make(map[string]any, len(e.paths)), held: make([]held, len(e.paths))}
	for i, path := range e.paths {
		v.held[i].name = fieldMark + path
		v.env[v.held[i].name] = nil
	}
	return v
}

// Bool evaluates an expression of kind Bool; fields are what the record has at Paths. Errors wrap ErrEvaluate.
func (v *Evaluator) Bool(fields []event.Field) (bool, error) {
	result, err := v.run(fields)
	if err != nil {
		return false, err
	}
	b, ok := result.(bool)
	if !ok {
		return false, failure(fmt.Sprintf("the result is %s, not true or false", nameOf(result)))
	}
	return b, nil
}

// Scalar evaluates an expression; fields are what the record has at Paths. The text of a result that is not the field itself is
// appended to dst, which is returned. Errors wrap ErrEvaluate.
func (v *Evaluator) Scalar(dst []byte, fields []event.Field) (event.Field, []byte, error) {
	if v.e.alias {
		return fields[0], dst, nil
	}
	result, err := v.run(fields)
	if err != nil {
		return event.Field{}, dst, err
	}
	from := len(dst)
	var kind event.FieldKind
	switch x := result.(type) {
	case nil:
		return event.Field{Kind: event.FieldNull}, dst, nil
	case bool:
		kind, dst = event.FieldBool, strconv.AppendBool(dst, x)
	case string:
		if len(x) > MaxFieldBytes {
			return event.Field{}, dst, failure(fmt.Sprintf("the result has %d bytes, at most %d are possible", len(x), MaxFieldBytes))
		}
		kind, dst = event.FieldString, append(dst, x...)
	case int:
		kind, dst = event.FieldNumber, strconv.AppendInt(dst, int64(x), 10)
	case float64:
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return event.Field{}, dst, failure("the result is not a finite number")
		}
		kind, dst = event.FieldNumber, appendNumber(dst, x)
	default:
		return event.Field{}, dst, failure(fmt.Sprintf("the result is %s, not %s", nameOf(result), v.e.kind))
	}
	return event.Field{Kind: kind, Raw: dst[from:len(dst):len(dst)]}, dst, nil
}

func nameOf(result any) string {
	switch result.(type) {
	case nil:
		return "nil"
	case bool:
		return aBool
	case string:
		return aString
	case int, float64:
		return aNumber
	case map[string]any:
		return aMap
	}
	return aList
}

func (v *Evaluator) run(fields []event.Field) (any, error) {
	for i := range v.held {
		if err := v.load(&v.held[i], fields[i]); err != nil {
			return nil, failure(fmt.Sprintf("field %s: %v", v.e.paths[i], err))
		}
	}
	result, err := v.machine.Run(v.e.program, v.env)
	if err != nil {
		return nil, v.failed(err)
	}
	return result, nil
}

// load makes a variable of a field.
func (v *Evaluator) load(h *held, f event.Field) error {
	if f.Kind == h.kind && bytes.Equal(f.Raw, h.raw) {
		return nil
	}
	h.kind = event.FieldAbsent
	v.env[h.name] = nil
	if len(f.Raw) > MaxFieldBytes {
		h.raw = nil
		return fmt.Errorf("%d bytes, at most %d are possible in an expression", len(f.Raw), MaxFieldBytes)
	}
	var value any
	switch f.Kind {
	case event.FieldAbsent, event.FieldNull:
	case event.FieldString:
		value = string(f.Raw)
	case event.FieldBool:
		value = len(f.Raw) == len("true")
	case event.FieldNumber:
		n, err := event.ParseFloat(f.Raw)
		if err != nil {
			h.raw = nil
			return err
		}
		value = n
	case event.FieldObject, event.FieldArray:
		h.raw = nil
		if err := json.Unmarshal(f.Raw, &value); err != nil {
			return err
		}
		if n := longest(value); n > maxElements {
			return fmt.Errorf("an array of %d elements, at most %d are possible in an expression", n, maxElements)
		}
	}
	v.env[h.name] = value
	h.kind, h.raw = f.Kind, append(h.raw[:0], f.Raw...)
	return nil
}

// longest returns the number of elements of the longest array in a value.
func longest(value any) int {
	n := 0
	switch x := value.(type) {
	case []any:
		n = len(x)
		for _, element := range x {
			n = max(n, longest(element))
		}
	case map[string]any:
		for _, member := range x {
			n = max(n, longest(member))
		}
	}
	return n
}

// failure is an error of an evaluation. Its text goes into headers of dead letters.
type failure string

// Error returns the text.
func (f failure) Error() string { return string(f) }

// Unwrap returns ErrEvaluate.
func (f failure) Unwrap() error { return ErrEvaluate }

// failed says why a program stopped, and which of its fields are missing, as that is why most do.
func (v *Evaluator) failed(err error) error {
	message := plain(err.Error())
	if at, ok := errors.AsType[*file.Error](err); ok {
		message = fmt.Sprintf("%s (character %d)", plain(at.Message), at.From+1)
	}
	var missing []string
	for i := range v.held {
		if v.env[v.held[i].name] == nil {
			missing = append(missing, v.e.paths[i])
		}
	}
	if len(missing) > 0 {
		message += "; missing or null: " + strings.Join(missing, ", ")
	}
	return failure(message)
}

// appendNumber appends a finite number as a value of JSON: the shortest text that gives it back.
func appendNumber(dst []byte, x float64) []byte {
	if abs := math.Abs(x); abs == 0 || abs >= 1e-6 && abs < 1e21 {
		return strconv.AppendFloat(dst, x, 'f', -1, 64)
	}
	return strconv.AppendFloat(dst, x, 'e', -1, 64)
}

// asString is string(): numbers as the shortest text that gives them back.
func asString(args ...any) (any, error) {
	switch x := args[0].(type) {
	case string:
		return x, nil
	case bool:
		return strconv.FormatBool(x), nil
	case int:
		return strconv.Itoa(x), nil
	case float64:
		return string(appendNumber(nil, x)), nil
	}
	return nil, fmt.Errorf("string() of %s", nameOf(args[0]))
}

// asInteger is int(): a number, or a string that is one, without what follows its point.
func asInteger(args ...any) (any, error) {
	x, err := number(args[0])
	if s, ok := args[0].(string); ok {
		x, err = event.ParseFloat([]byte(s))
	}
	if err != nil {
		return nil, fmt.Errorf("int(): %w", err)
	}
	return math.Trunc(x), nil
}

// plus is the + inside of a loop.
func plus(args ...any) (any, error) {
	a, err := number(args[0])
	if err != nil {
		return nil, fmt.Errorf("+ inside of a loop: %w", err)
	}
	b, err := number(args[1])
	if err != nil {
		return nil, fmt.Errorf("+ inside of a loop: %w", err)
	}
	return a + b, nil
}

// modulo is %: the remainder of a division, with the sign of what is divided.
func modulo(args ...any) (any, error) {
	a, err := number(args[0])
	if err != nil {
		return nil, err
	}
	b, err := number(args[1])
	if err != nil {
		return nil, err
	}
	if b == 0 {
		return nil, errors.New("remainder of a division by 0")
	}
	return math.Mod(a, b), nil
}

func number(x any) (float64, error) {
	switch x := x.(type) {
	case int:
		return float64(x), nil
	case float64:
		return x, nil
	}
	return 0, fmt.Errorf("%s is not a number", nameOf(x))
}
