package filter

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// leaf is a list of rules for one value, one of which has to hold.
type leaf []rule

// rule says what a scalar may be.
type rule struct {
	scalar func(v any) bool // nil, string, bool or json.Number
	absent bool             // it holds where there is no value, and nowhere else
}

// match reports whether a value, if it is there, is as a rule says. Of a list one element is enough; an object is as no rule says.
func (l leaf) match(v any, there bool) bool {
	switch v := v.(type) {
	case map[string]any:
		return false
	case []any:
		for _, e := range v {
			if l.match(e, true) {
				return true
			}
		}
		return false
	}
	for _, r := range l {
		if r.absent && !there || !r.absent && there && r.scalar(v) {
			return true
		}
	}
	return false
}

func readLeaf(data []byte) (leaf, error) {
	list, err := readArray(data)
	if err != nil {
		return nil, err
	}
	var out leaf
	for _, e := range list {
		r, err := readRule(e)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// readRule reads a scalar, which has to be equal, or an object with one rule.
func readRule(data []byte) (rule, error) {
	if trimmed := bytes.TrimLeft(data, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' {
		v, err := readScalar(data)
		return rule{scalar: func(have any) bool { return have == v }}, err
	}
	members, err := readObject(data)
	if err != nil {
		return rule{}, err
	}
	if len(members) != 1 {
		return rule{}, fmt.Errorf("%w: want one rule in an object, got %.60s", ErrPattern, data)
	}
	name, argument := members[0].name, members[0].raw
	var r rule
	switch name {
	case "exists":
		var wanted bool
		if err = json.Unmarshal(argument, &wanted); err != nil {
			err = fmt.Errorf("%w: want true or false", ErrPattern)
		}
		r = rule{absent: !wanted, scalar: func(any) bool { return true }}
	case "prefix", "suffix", "equals-ignore-case":
		r.scalar, err = readTextRule(name, argument)
	case "anything-but":
		r.scalar, err = readOther(argument)
	case "numeric":
		r.scalar, err = readRange(argument)
	case "cidr", "wildcard":
		err = ErrNotSupported
	default:
		err = fmt.Errorf("%w: no such rule", ErrPattern)
	}
	if err != nil {
		return rule{}, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

// readScalar reads null, a string, a boolean or a number. Numbers are compared as they are written: 300, 300.0 and 3e2 differ.
func readScalar(data []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPattern, err)
	}
	if _, ok := v.([]any); ok {
		return nil, fmt.Errorf("%w: a list in a list", ErrPattern)
	}
	return v, nil
}

func readTextRule(name string, argument []byte) (func(any) bool, error) {
	v, err := readScalar(argument)
	if err != nil {
		return nil, err
	}
	want, ok := v.(string)
	if !ok {
		return nil, fmt.Errorf("%w: want a string", ErrPattern)
	}
	if want == "" && name != "equals-ignore-case" {
		return nil, fmt.Errorf("%w: an empty string", ErrPattern)
	}
	holds := strings.HasPrefix
	switch name {
	case "suffix":
		holds = strings.HasSuffix
	case "equals-ignore-case":
		holds = strings.EqualFold
	}
	return func(have any) bool {
		s, ok := have.(string)
		return ok && holds(s, want)
	}, nil
}

// readOther reads what a value may not be: a string, a number, a list of one kind of them, or an object with a rule for strings.
func readOther(argument []byte) (func(any) bool, error) {
	if isArray(argument) {
		list, err := readArray(argument)
		if err != nil {
			return nil, err
		}
		not := map[any]bool{}
		for _, e := range list {
			v, err := readOne(e)
			if err != nil {
				return nil, err
			}
			not[v] = true
		}
		return func(have any) bool { return !not[have] }, nil
	}
	if trimmed := bytes.TrimLeft(argument, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' {
		v, err := readOne(argument)
		return func(have any) bool { return have != v }, err
	}
	members, err := readObject(argument)
	if err != nil {
		return nil, err
	}
	if len(members) != 1 {
		return nil, fmt.Errorf("%w: want one rule", ErrPattern)
	}
	switch name := members[0].name; name {
	case "prefix", "suffix", "equals-ignore-case":
		holds, err := readTextRule(name, members[0].raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return func(have any) bool { return !holds(have) }, nil
	}
	return nil, fmt.Errorf("%w: anything-but %s", ErrNotSupported, members[0].name)
}

// readOne reads a string or a number.
func readOne(data []byte) (any, error) {
	v, err := readScalar(data)
	if err != nil {
		return nil, err
	}
	switch v.(type) {
	case string, json.Number:
		return v, nil
	}
	return nil, fmt.Errorf("%w: want strings or numbers, got %.40s", ErrPattern, data)
}

// mostNumber bounds the numbers of a numeric rule.
const mostNumber = 5e9

// readRange reads one or two comparisons: ["=", 1], or [">", 0, "<=", 5].
func readRange(argument []byte) (func(any) bool, error) {
	list, err := readArray(argument)
	if err != nil {
		return nil, err
	}
	if len(list) != 2 && len(list) != 4 {
		return nil, fmt.Errorf("%w: want one comparison or two", ErrPattern)
	}
	var all []func(float64) bool
	var operators []string
	for i := 0; i < len(list); i += 2 {
		var operator string
		var bound float64
		if json.Unmarshal(list[i], &operator) != nil || json.Unmarshal(list[i+1], &bound) != nil || bytes.Equal(list[i+1], []byte("null")) {
			return nil, fmt.Errorf("%w: want an operator and a number", ErrPattern)
		}
		if bound < -mostNumber || bound > mostNumber {
			return nil, fmt.Errorf("%w: %v is not between -5e9 and 5e9", ErrPattern, bound)
		}
		holds := comparison(operator, bound)
		if holds == nil {
			return nil, fmt.Errorf("%w: operator %q", ErrPattern, operator)
		}
		all, operators = append(all, holds), append(operators, operator)
	}
	if len(all) == 2 && (operators[0][0] != '>' || operators[1][0] != '<') {
		return nil, fmt.Errorf("%w: want a lower bound and then an upper one", ErrPattern)
	}
	return func(have any) bool {
		n, ok := have.(json.Number)
		if !ok {
			return false
		}
		v, err := strconv.ParseFloat(string(n), 64)
		if err != nil {
			return false
		}
		for _, holds := range all {
			if !holds(v) {
				return false
			}
		}
		return true
	}, nil
}

func comparison(operator string, bound float64) func(float64) bool {
	switch operator {
	case "=":
		return func(v float64) bool { return v == bound }
	case ">":
		return func(v float64) bool { return v > bound }
	case ">=":
		return func(v float64) bool { return v >= bound }
	case "<":
		return func(v float64) bool { return v < bound }
	case "<=":
		return func(v float64) bool { return v <= bound }
	}
	return nil
}
