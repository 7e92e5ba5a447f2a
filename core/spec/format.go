package spec

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/llm-auto-optimizer/tidemark/core/expression"
)

// format is what a string must look like.
type format uint8

const (
	formatFree       format = iota // not empty, no control characters
	formatName                     // an app or a pipeline
	formatWindowName               // as formatName, dots too
	formatValueName                // a value: a key of results
	formatTopic                    // a Kafka topic
	formatGroup                    // a consumer group
	formatServers                  // HOST:PORT, separated by commas
	formatPath                     // a field of a record: names joined by dots
	formatKey                      // a path, or an expression
	formatWhere                    // an expression that is true or false
	formatDerived                  // an expression that is a string, a number, true or false
	formatFieldName                // a derived field: a name that expressions can use
	formatColumn                   // a field of a row
	formatDelimiter                // what is between the fields of a row
	formatFunction                 // an aggregate function; audit knows which there are
)

// mostName is the most characters of a name, mostTopic of a topic (Kafka's own bound).
const (
	mostName  = 64
	mostTopic = 249
)

// check returns what is wrong with s, and what would be right; two empty strings if nothing is.
func (f format) check(s string) (message, hint string) {
	switch f {
	case formatFree:
		if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return "must be a line of text", "not empty, without control characters"
		}
	case formatName:
		// A dot would let app a.b with pipeline c share a group with app a and pipeline b.c.
		return checkName(s, "-_", "lower-case letters, digits, - and _; a dot separates the parts of the group's name")
	case formatWindowName:
		return checkName(s, "-_.", "lower-case letters, digits, -, _ and .")
	case formatValueName:
		if len(s) == 0 || len(s) > mostName || !only(s, letters+digits+"-_.") || s[0] == '-' || s[0] == '.' {
			return "is not a name of a value", "1 to 64 letters, digits, _, - and ., beginning with a letter, digit or _"
		}
	case formatTopic:
		return checkTopic(s)
	case formatGroup:
		if s == "" || len(s) > mostTopic || !only(s, letters+digits+"-_.:") {
			return "is not a consumer group", "1 to 249 letters, digits, ., _, - and :"
		}
	case formatServers:
		return checkServers(s)
	case formatPath:
		return checkPath(s)
	case formatKey:
		if isExpression(s) {
			return checkExpression(s, expression.Scalar)
		}
		return checkPath(s)
	case formatWhere:
		return checkExpression(s, expression.Bool)
	case formatDerived:
		return checkExpression(s, expression.Scalar)
	case formatFieldName:
		return checkFieldName(s)
	case formatColumn:
		return checkColumn(s)
	case formatDelimiter:
		return checkDelimiter(s)
	case formatFunction:
	}
	return "", ""
}

const (
	lower   = "abcdefghijklmnopqrstuvwxyz"
	letters = lower + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits  = "0123456789"
)

func only(s, allowed string) bool {
	for i := range len(s) {
		if strings.IndexByte(allowed, s[i]) < 0 {
			return false
		}
	}
	return true
}

func checkName(s, marks, allowed string) (message, hint string) {
	if s != "" && len(s) <= mostName && only(s, lower+digits+marks) && only(s[:1], lower+digits) {
		return "", ""
	}
	return "is not a name", "1 to 64 " + allowed + "; the first a letter or digit"
}

func checkTopic(s string) (message, hint string) {
	switch {
	case s == "", len(s) > mostTopic, s == ".", s == "..", !only(s, letters+digits+"-_."):
		return "is not a legal Kafka topic", "1 to 249 letters, digits, ., _ and -"
	case s == LedgerTopic, s == PanesTopic, strings.HasPrefix(s, "__"):
		return "is an internal topic", "choose another name"
	}
	return "", ""
}

func checkServers(s string) (message, hint string) {
	const want = "HOST:PORT, separated by commas, such as localhost:9092"
	for server := range strings.SplitSeq(s, ",") {
		server = strings.TrimSpace(server)
		at := strings.LastIndexByte(server, ':')
		if at <= 0 || strings.Contains(server, "://") || strings.ContainsAny(server, " \t\"'/") {
			return "is not a list of brokers", want
		}
		if port, err := strconv.ParseUint(server[at+1:], 10, 16); err != nil || port == 0 {
			return "is not a list of brokers", want + "; the port is 1 to 65535"
		}
	}
	return "", ""
}

// checkPath accepts names joined by dots. Anything that would be an operation of an expression is said to be one.
func checkPath(s string) (message, hint string) {
	const want = "names joined by dots, such as attributes.tokens"
	switch {
	case s == "", len(s) > 256, !utf8.ValidString(s):
		return "is not a path of a field", want + ", at most 256 bytes"
	case isExpression(s):
		return "is an expression, and the name of a field is wanted", "derive it: map: {name: EXPRESSION}, and write the name here"
	}
	for name := range strings.SplitSeq(s, ".") {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return "is not a path of a field", want
		}
	}
	return "", ""
}

// isExpression reports whether s is more than a path. A hyphen inside a name is part of it: names such as user-id are common.
func isExpression(s string) bool {
	return strings.ContainsAny(s, " \t\n()[]{}+*/%<>=!?:&|,;\"'`^\\#") || strings.HasPrefix(s, "-")
}

// count says a number of things: "1 value", "2 values".
func count(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
