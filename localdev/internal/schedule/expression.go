// Package schedule invokes functions at the times that EventBridge would: rate(...), cron(...) and at(...).
//
// Cron of AWS is a dialect of its own: six fields with a year, days of the week from 1 for Sunday, exactly one of the two day fields a
// question mark, L, W and #. Libraries for cron number the days of the week from 0 and know no question mark, so that this reads it
// itself.
package schedule

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ErrExpression is returned for what EventBridge would not take either.
var ErrExpression = errors.New("schedule: expression")

// Expression says when. The zero value is never.
type Expression struct {
	text string
	loc  *time.Location
	rate time.Duration // rate(...)
	at   time.Time     // at(...)
	cron *cron
}

// String returns the expression as it was written.
func (e Expression) String() string { return e.text }

// Parse reads an expression. zone is the name of the time zone that cron and at are in; "": UTC.
func Parse(text, zone string) (Expression, error) {
	e := Expression{text: text, loc: time.UTC}
	fail := func(format string, args ...any) (Expression, error) {
		return Expression{}, fmt.Errorf("%w: %s: "+format, append([]any{ErrExpression, text}, args...)...)
	}
	var err error
	if zone != "" {
		if e.loc, err = time.LoadLocation(zone); err != nil || zone == "Local" {
			return fail("time zone %q is not known", zone)
		}
	}
	kind, rest, ok := strings.Cut(strings.TrimSpace(text), "(")
	body, closed := strings.CutSuffix(rest, ")")
	if !ok || !closed {
		return fail("want rate(...), cron(...) or at(...)")
	}
	switch kind {
	case "rate":
		if e.rate, err = rate(strings.Fields(body)); err != nil {
			return fail("%w", err)
		}
	case "at":
		if e.at, err = time.ParseInLocation("2006-01-02T15:04:05", strings.TrimSpace(body), e.loc); err != nil {
			return fail("want at(yyyy-mm-ddThh:mm:ss)")
		}
	case "cron":
		if e.cron, err = parseCron(strings.Fields(body)); err != nil {
			return fail("%w", err)
		}
	default:
		return fail("want rate(...), cron(...) or at(...)")
	}
	return e, nil
}

// mostRate keeps a rate within what a duration can say, and far beyond what anybody waits for.
const mostRate = 100_000

var (
	errRate   = errors.New("want a whole number above 0 and minute(s), hour(s) or day(s); nothing is more often than once a minute")
	errPlural = errors.New("one takes minute, hour or day, more take minutes, hours or days")
)

func rate(words []string) (time.Duration, error) {
	if len(words) != 2 {
		return 0, errRate
	}
	n, err := strconv.Atoi(words[0])
	if err != nil || n < 1 || n > mostRate || strings.HasPrefix(words[0], "+") {
		return 0, errRate
	}
	unit, plural := strings.CutSuffix(words[1], "s")
	d := map[string]time.Duration{"minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour}[unit]
	switch {
	case d == 0:
		return 0, errRate
	case plural != (n > 1):
		return 0, errPlural
	}
	return time.Duration(n) * d, nil
}

// Next returns the first time after another at which the schedule that began at start is due; false: never.
func (e Expression) Next(start, after time.Time) (time.Time, bool) {
	switch {
	case e.rate > 0:
		if after.Before(start) {
			return start, true
		}
		since := after.Sub(start)
		return start.Add(since - since%e.rate + e.rate), true
	case !e.at.IsZero():
		return e.at, e.at.After(after)
	case e.cron != nil:
		return e.cron.next(after.In(e.loc))
	}
	return time.Time{}, false
}
