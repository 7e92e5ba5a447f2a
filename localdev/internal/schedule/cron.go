package schedule

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The years that AWS takes.
const (
	firstYear = 1970
	lastYear  = 2199
)

// cron is a parsed expression. Sets are bits, those of days of the week with 1 for Sunday.
type cron struct {
	minutes, hours, days, months, weekdays uint64
	years                                  [lastYear + 1]bool // by year

	lastDay     bool // L: of the month
	nearest     int  // nW: the weekday nearest to day n; 0: none
	byWeekday   bool // the day of the month is a question mark
	lastWeekday int  // nL: the last such weekday of the month; 0: none
	nthWeekday  int  // n#k
	nth         int
}

// field is what may stand in one.
type field struct {
	name        string
	least, most int
	names       []string // of least and the following
	steps       bool
}

func fields() [6]field {
	return [6]field{
		{"minutes", 0, 59, nil, true},
		{"hours", 0, 23, nil, true},
		{"day of month", 1, 31, nil, true},
		{"month", 1, 12, []string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}, true},
		{"day of week", 1, 7, []string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}, false},
		{"year", firstYear, lastYear, nil, true},
	}
}

func (f field) fail(text string) error {
	return fmt.Errorf("%w: %s: %q cannot stand there", ErrExpression, f.name, text)
}

// number reads a number or a name.
func (f field) number(text string) (int, error) {
	for i, name := range f.names {
		if strings.EqualFold(text, name) {
			return f.least + i, nil
		}
	}
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, f.fail(text)
		}
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < f.least || n > f.most {
		return 0, fmt.Errorf("%w: %s: %q: want %d to %d", ErrExpression, f.name, text, f.least, f.most)
	}
	return n, nil
}

// each calls add for each value of a list of values, ranges and steps.
func (f field) each(text string, add func(n int)) error {
	for part := range strings.SplitSeq(text, ",") {
		what, by, stepped := strings.Cut(part, "/")
		step := 1
		if stepped {
			n, err := strconv.Atoi(by)
			if err != nil || n < 1 || n > f.most || !f.steps || by[0] == '+' {
				return f.fail(part)
			}
			step = n
		}
		first, last, ranged := strings.Cut(what, "-")
		from, to := f.least, f.most
		var err error
		if what != "*" {
			if from, err = f.number(first); err != nil {
				return err
			}
			if to = from; stepped {
				to = f.most
			}
			if ranged {
				if to, err = f.number(last); err != nil {
					return err
				}
				if to < from {
					return f.fail(part)
				}
			}
		}
		for n := from; n <= to; n += step {
			add(n)
		}
	}
	return nil
}

func (f field) set(text string) (bits uint64, err error) {
	err = f.each(text, func(n int) { bits |= 1 << n })
	return bits, err
}

func parseCron(words []string) (*cron, error) {
	if len(words) != 6 {
		return nil, fmt.Errorf("%w: %d fields: want minutes, hours, day of month, month, day of week, year; nothing is more often than once a minute", ErrExpression, len(words))
	}
	c, fs := &cron{}, fields()
	if (words[2] == "?") == (words[4] == "?") {
		return nil, fmt.Errorf("%w: exactly one of day of month and day of week is a question mark", ErrExpression)
	}
	var err error
	if c.minutes, err = fs[0].set(words[0]); err != nil {
		return nil, err
	}
	if c.hours, err = fs[1].set(words[1]); err != nil {
		return nil, err
	}
	if c.months, err = fs[3].set(words[3]); err != nil {
		return nil, err
	}
	if err := fs[5].each(words[5], func(n int) { c.years[n] = true }); err != nil {
		return nil, err
	}
	if c.byWeekday = words[2] == "?"; c.byWeekday {
		err = c.weekday(fs[4], strings.ToUpper(words[4]))
	} else {
		err = c.day(fs[2], strings.ToUpper(words[2]))
	}
	return c, err
}

// day reads the day of the month.
func (c *cron) day(f field, text string) (err error) {
	n, weekday := strings.CutSuffix(text, "W")
	switch {
	case text == "L":
		c.lastDay = true
	case weekday:
		c.nearest, err = f.number(n)
	default:
		c.days, err = f.set(text)
	}
	return err
}

// weekday reads the day of the week. L alone is the week's last day, Saturday.
func (c *cron) weekday(f field, text string) (err error) {
	day, last := strings.CutSuffix(text, "L")
	which, nth, numbered := strings.Cut(text, "#")
	switch {
	case text == "L":
		c.weekdays = 1 << 7
	case last:
		c.lastWeekday, err = f.number(day)
	case numbered:
		if c.nthWeekday, err = f.number(which); err != nil {
			return err
		}
		c.nth, err = field{name: "number of the weekday in the month", least: 1, most: 5}.number(nth)
	default:
		c.weekdays, err = f.set(text)
	}
	return err
}

func has(bits uint64, n int) bool { return bits>>n&1 == 1 }

// on reports whether a day is one of the schedule's.
func (c *cron) on(year int, month time.Month, day int) bool {
	date := time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	length := date.AddDate(0, 1, -day).Day()
	weekday := int(date.Weekday()) + 1
	switch {
	case c.lastDay:
		return day == length
	case c.nearest > 0:
		return day == nearest(year, month, c.nearest, length)
	case c.lastWeekday > 0:
		return weekday == c.lastWeekday && day+7 > length
	case c.nth > 0:
		return weekday == c.nthWeekday && (day-1)/7+1 == c.nth
	case c.byWeekday:
		return has(c.weekdays, weekday)
	}
	return has(c.days, day)
}

// nearest returns the weekday nearest to a day, in the same month; 0 where the month has no such day.
func nearest(year int, month time.Month, day, length int) int {
	if day > length {
		return 0
	}
	switch time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Weekday() {
	case time.Saturday:
		if day == 1 {
			return 3
		}
		return day - 1
	case time.Sunday:
		if day == length {
			return day - 2
		}
		return day + 1
	case time.Monday, time.Tuesday, time.Wednesday, time.Thursday, time.Friday:
	}
	return day
}

// next returns the first time after another, in its location.
func (c *cron) next(after time.Time) (time.Time, bool) {
	year, month, day := after.Date()
	for ; year <= lastYear; year, month, day = year+1, time.January, 1 {
		if year < firstYear || !c.years[year] {
			continue
		}
		for ; month <= time.December; month, day = month+1, 1 {
			if !has(c.months, int(month)) {
				continue
			}
			for ; day <= 31; day++ {
				if time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Month() != month {
					break
				}
				if !c.on(year, month, day) {
					continue
				}
				if at, ok := c.within(year, month, day, after); ok {
					return at, true
				}
			}
		}
	}
	return time.Time{}, false
}

// within returns the first time of a day after another. A time that the clock skips is none; of one that it has twice it is the
// first.
func (c *cron) within(year int, month time.Month, day int, after time.Time) (best time.Time, ok bool) {
	for hour := range 24 {
		if !has(c.hours, hour) {
			continue
		}
		for minute := range 60 {
			if !has(c.minutes, minute) {
				continue
			}
			at := time.Date(year, month, day, hour, minute, 0, 0, after.Location())
			if at.Hour() != hour || at.Minute() != minute || at.Day() != day {
				continue // the clock went forward over it
			}
			at = first(at)
			// Where the clock goes back, a later time of day is not always a later time.
			if at.After(after) && (!ok || at.Before(best)) {
				best, ok = at, true
			}
		}
		// No clock goes back by more than three hours.
		if ok && time.Date(year, month, day, hour, 0, 0, 0, after.Location()).Sub(best) > 3*time.Hour {
			return best, ok
		}
	}
	return best, ok
}

// first returns the earlier one of two times that the clock shows alike.
func first(at time.Time) time.Time {
	_, offset := at.Zone()
	_, before := at.Add(-3 * time.Hour).Zone()
	if before <= offset {
		return at
	}
	earlier := at.Add(time.Duration(offset-before) * time.Second)
	if _, o := earlier.Zone(); o == before && earlier.Day() == at.Day() && earlier.Hour() == at.Hour() && earlier.Minute() == at.Minute() {
		return earlier
	}
	return at
}
