package schedule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/localdev/internal/template"
	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

func parse(t *testing.T, text, zone string) Expression {
	t.Helper()
	e, err := Parse(text, zone)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func moment(t *testing.T, text, zone string) time.Time {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	at, err := time.ParseInLocation("2006-01-02 15:04", text, loc)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestCron(t *testing.T) {
	for _, tt := range []struct {
		expression, zone, after string
		want                    []string
	}{
		{"* * * * ? *", "", "2026-02-28 23:58", []string{"2026-02-28 23:59", "2026-03-01 00:00"}},
		{"0 10 * * ? *", "", "2026-01-01 10:00", []string{"2026-01-02 10:00"}},
		{"15 12 * * ? *", "", "2026-01-01 10:00", []string{"2026-01-01 12:15", "2026-01-02 12:15"}},
		{"0 18 ? * MON-FRI *", "", "2026-01-02 18:00", []string{"2026-01-05 18:00", "2026-01-06 18:00"}},
		{"0 8 1 * ? *", "", "2026-01-01 10:00", []string{"2026-02-01 08:00"}},
		{"0/10 * ? * MON-FRI *", "", "2026-01-02 23:45", []string{"2026-01-02 23:50", "2026-01-05 00:00"}},
		{"0/5 8-17 ? * MON-FRI *", "", "2026-01-02 17:50", []string{"2026-01-02 17:55", "2026-01-05 08:00"}},
		{"0 9 ? * 2#1 *", "", "2026-01-01 10:00", []string{"2026-01-05 09:00", "2026-02-02 09:00"}},
		{"15 10 ? * 6L 2019-2030", "", "2026-01-01 10:00", []string{"2026-01-30 10:15", "2026-02-27 10:15"}},
		{"0 0 ? * L *", "", "2026-01-01 10:00", []string{"2026-01-03 00:00"}},
		{"0 0 ? * 1 *", "", "2026-01-01 10:00", []string{"2026-01-04 00:00"}}, // Sunday
		{"0 0 L * ? *", "", "2026-01-31 00:00", []string{"2026-02-28 00:00", "2026-03-31 00:00"}},
		{"0 0 L 2 ? *", "", "2026-03-01 00:00", []string{"2027-02-28 00:00", "2028-02-29 00:00"}},
		{"0 0 1W * ? *", "", "2026-07-02 00:00", []string{"2026-08-03 00:00"}},  // a Saturday: Monday, in the month
		{"0 0 31W * ? *", "", "2026-05-01 00:00", []string{"2026-05-29 00:00"}}, // a Sunday: Friday
		{"0 0 15W 8 ? *", "", "2026-01-01 00:00", []string{"2026-08-14 00:00"}},
		{"0 0 15W 11 ? *", "", "2026-01-01 00:00", []string{"2026-11-16 00:00"}},
		{"0 0 30W * ? *", "", "2026-01-30 00:00", []string{"2026-03-30 00:00"}},
		{"0 0 ? * tue#5 *", "", "2026-01-01 00:00", []string{"2026-03-31 00:00"}},
		{"0 0 29 FEB ? *", "", "2026-01-01 00:00", []string{"2028-02-29 00:00", "2032-02-29 00:00"}},
		{"0 0 1 1 ? 2025", "", "2026-01-01 00:00", nil},
		{"0 0 31 2,4 ? *", "", "2026-01-01 00:00", nil},
		{"0 0 1,15 JAN,jul ? 2026/2", "", "2026-07-15 00:00", []string{"2028-01-01 00:00"}},
		{"5,35 14 * * ? *", "", "2026-01-01 14:05", []string{"2026-01-01 14:35"}},
		// The clock goes forward: there is no half past two. It goes back: there are two, of which the first counts.
		{"30 2 * * ? *", "Europe/Berlin", "2026-03-28 12:00", []string{"2026-03-30 02:30"}},
		{"30 2 * * ? *", "Europe/Berlin", "2026-10-24 12:00", []string{"2026-10-25 02:30", "2026-10-26 02:30"}},
		{"0 8 * * ? *", "America/New_York", "2026-03-07 12:00", []string{"2026-03-08 08:00"}},
	} {
		t.Run(tt.expression, func(t *testing.T) {
			e, at := parse(t, "cron("+tt.expression+")", tt.zone), moment(t, tt.after, tt.zone)
			for _, want := range append(tt.want, "") {
				next, ok := e.Next(time.Time{}, at)
				if want == "" {
					if !ok && tt.want != nil {
						t.Error("it ends")
					}
					if ok && tt.want == nil {
						t.Errorf("next is %s, want never", next)
					}
					return
				}
				if got := next.Format("2006-01-02 15:04"); got != want {
					t.Fatalf("after %s: %s, want %s", at, got, want)
				}
				at = next
			}
		})
	}
}

func TestTheHourThatTheClockHasTwice(t *testing.T) {
	e := parse(t, "cron(0/15 2 * * ? *)", "Europe/Berlin")
	at := time.Date(2026, 10, 24, 23, 50, 0, 0, time.UTC) // 01:50 of the 25th
	var got []string
	for range 5 {
		next, ok := e.Next(time.Time{}, at)
		if !ok {
			t.Fatal("never")
		}
		at = next
		got = append(got, at.UTC().Format("02 15:04"))
	}
	want := []string{"25 00:00", "25 00:15", "25 00:30", "25 00:45", "26 01:00"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// In the second one nothing is due.
	if next, _ := e.Next(time.Time{}, time.Date(2026, 10, 25, 1, 20, 0, 0, time.UTC)); next.UTC().Format("02 15:04") != "26 01:00" {
		t.Errorf("next %s", next)
	}
}

func TestRate(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 30, 0, time.UTC)
	for text, step := range map[string]time.Duration{"rate(1 minute)": time.Minute, " rate( 5  minutes ) ": 5 * time.Minute, "rate(1 hour)": time.Hour, "rate(2 days)": 48 * time.Hour} {
		e := parse(t, text, "")
		at := start.Add(-time.Nanosecond)
		for n := range 5 {
			next, ok := e.Next(start, at)
			if want := start.Add(time.Duration(n) * step); !ok || !next.Equal(want) {
				t.Errorf("%s: time %d is %s, want %s", text, n, next, want)
			}
			at = next
		}
		if next, _ := e.Next(start, start.Add(step+time.Second)); !next.Equal(start.Add(2 * step)) {
			t.Errorf("%s: %s", text, next)
		}
	}
}

func TestAt(t *testing.T) {
	e := parse(t, "at(2026-07-01T12:00:00)", "Europe/Berlin")
	at, ok := e.Next(time.Time{}, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	if !ok || !at.Equal(time.Date(2026, 7, 1, 10, 0, 0, 0, time.UTC)) {
		t.Errorf("%s", at)
	}
	if _, ok := e.Next(time.Time{}, at); ok {
		t.Error("twice")
	}
}

func TestWhatEventBridgeRefusesIsRefused(t *testing.T) {
	for _, text := range []string{
		"", "rate", "rate()", "rate(1)", "rate(0 minutes)", "rate(-1 minute)", "rate(+1 minute)", "rate(1 minutes)", "rate(2 minute)", "rate(30 seconds)", "rate(1.5 hours)", "rate(1 week)",
		"rate(1 minute", "every(1 minute)", "at(2026-07-01)", "at(2026-13-01T00:00:00)", "cron()", "cron(* * * * *)", "cron(* * * * * *)", "cron(* * ? * ? *)",
		"cron(0/10 * * * * ? *)", "cron(60 * * * ? *)", "cron(* 24 * * ? *)", "cron(* * 0 * ? *)", "cron(* * 32 * ? *)", "cron(* * * 13 ? *)", "cron(* * ? * 0 *)", "cron(* * ? * 8 *)",
		"cron(* * * * ? 1969)", "cron(* * * * ? 2200)", "cron(*/0 * * * ? *)", "cron(5-1 * * * ? *)", "cron(a * * * ? *)", "cron(* * * FOO ? *)", "cron(1,,2 * * * ? *)", "cron(+1 * * * ? *)",
		"cron(* * ? * 2#6 *)", "cron(* * ? * 2#0 *)", "cron(* * ? * 3#1,6#3 *)", "cron(* * L-3 * ? *)", "cron(* * LW * ? *)", "cron(* * 1,L * ? *)", "cron(* * ? * 2/2 *)", "cron(? * * * ? *)", "cron(* * * ? * *)",
		"cron(* * * L ? *)", "cron(* * W * ? *)", "cron(* * 32W * ? *)", "cron(* * ? * 8L *)",
	} {
		if e, err := Parse(text, ""); !errors.Is(err, ErrExpression) {
			t.Errorf("%q: %v, %v", text, e, err)
		}
	}
	for _, zone := range []string{"Mars/North", "Local"} {
		if _, err := Parse("cron(* * * * ? *)", zone); !errors.Is(err, ErrExpression) {
			t.Errorf("zone %s: %v", zone, err)
		}
	}
}

// random makes a field and the values that it stands for.
func random(r *rand.Rand, least, most int, steps bool) (string, []int) {
	var texts []string
	var values []int
	for range 1 + r.IntN(3) {
		from := least + r.IntN(most-least+1)
		to := from + r.IntN(most-from+1)
		step := 1 + r.IntN(min(most, 20))
		switch k := r.IntN(5); {
		case k == 0:
			to, step = from, 1
			texts = append(texts, strconv.Itoa(from))
		case k == 1 || !steps:
			step = 1
			texts = append(texts, fmt.Sprintf("%d-%d", from, to))
		case k == 2:
			to = most
			texts = append(texts, fmt.Sprintf("%d/%d", from, step))
		case k == 3:
			from, to = least, most
			texts = append(texts, fmt.Sprintf("*/%d", step))
		default:
			texts = append(texts, fmt.Sprintf("%d-%d/%d", from, to, step))
		}
		for n := from; n <= to; n += step {
			values = append(values, n)
		}
	}
	return strings.Join(texts, ","), values
}

// The next time is the first one that a look at every minute finds.
func TestNextIsTheFirstMinuteThatMatches(t *testing.T) {
	r := seed.Rand(t)
	zones := []string{"", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"}
	for range 150 {
		minutes, inMinutes := random(r, 0, 59, true)
		hours, inHours := random(r, 0, 23, true)
		months, inMonths := random(r, 1, 12, true)
		days, inDays := random(r, 1, 31, true)
		weekdays, inWeekdays := random(r, 1, 7, false)
		byWeekday := r.IntN(2) == 0
		if byWeekday {
			days = "?"
		} else {
			weekdays = "?"
		}
		e := parse(t, "cron("+strings.Join([]string{minutes, hours, days, months, weekdays, "*"}, " ")+")", zones[r.IntN(len(zones))])
		loc := e.loc
		after := time.Date(2026, time.Month(1+r.IntN(12)), 1+r.IntN(28), r.IntN(24), r.IntN(60), r.IntN(60), 0, loc)
		if r.IntN(3) == 0 { // about a change of the clock
			after = time.Date(2026, []time.Month{3, 4, 10, 11}[r.IntN(4)], 1+r.IntN(31), r.IntN(5), r.IntN(60), 0, 0, loc)
		}
		got, ok := e.Next(time.Time{}, after)
		shown := func(at time.Time) string { return at.Format("2006-01-02 15:04") }
		matches := func(at time.Time) bool {
			at = at.In(loc)
			day := slices.Contains(inDays, at.Day())
			if byWeekday {
				day = slices.Contains(inWeekdays, int(at.Weekday())+1)
			}
			return day && slices.Contains(inMinutes, at.Minute()) && slices.Contains(inHours, at.Hour()) && slices.Contains(inMonths, int(at.Month())) &&
				shown(at.Add(-time.Hour)) != shown(at) && shown(at.Add(-30*time.Minute)) != shown(at) // the second of two alike is none
		}
		const most = 40 * 24 * 60
		want := after.Truncate(time.Minute)
		found := false
		for range most {
			if want = want.Add(time.Minute); matches(want) {
				found = true
				break
			}
		}
		switch {
		case found && (!ok || !got.Equal(want)):
			t.Fatalf("%s in %s after %s: %s, %t, want %s", e, loc, after, got, ok, want.In(loc))
		case !found && ok && got.Before(want):
			t.Fatalf("%s in %s after %s: %s, which does not match", e, loc, after, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"rate(1 minute)", "cron(0/15 8-17 ? * MON-FRI,1 2026/2)", "cron(0 0 15W * ? *)", "cron(0 0 ? * 6L *)", "cron(0 0 ? * 2#3 *)", "at(2026-01-01T00:00:00)"} {
		f.Add(s)
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		e, err := Parse(text, "")
		if err != nil {
			if !errors.Is(err, ErrExpression) {
				t.Errorf("%v", err)
			}
			return
		}
		if at, ok := e.Next(now, now); ok && !at.After(now) {
			t.Errorf("%q: %s", text, at)
		}
	})
}

// sent is what was handed over.
type sent struct {
	mu    sync.Mutex
	begun time.Time
	fail  int // how many are refused at first
	at    []time.Duration
	all   []string
}

var errRefused = errors.New("refused")

func (s *sent) send(function string, payload []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = append(s.at, time.Since(s.begun).Round(time.Millisecond))
	s.all = append(s.all, function+" "+string(payload))
	if s.fail > 0 {
		s.fail--
		return errRefused
	}
	return nil
}

func run(t *testing.T, d time.Duration, s *sent, schedules ...Schedule) {
	t.Helper()
	s.begun = time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	Run(ctx, schedules, s.send, slog.New(slog.DiscardHandler))
}

func TestSchedulesFireWhenTheyAreDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the bubble's clock begins at midnight
		s := &sent{}
		run(t, 150*time.Second, s, Schedule{Name: "a", Function: "F", Expression: parse(t, "rate(1 minute)", ""), Input: `{"a":1}`},
			Schedule{Name: "b", Function: "G", Expression: parse(t, "cron(1 * * * ? *)", ""), Input: `{"at":"<aws.scheduler.scheduled-time>","n":<aws.scheduler.attempt-number>}`},
			Schedule{Name: "never", Function: "H", Expression: parse(t, "at(1999-01-01T00:00:00)", "")})
		slices.Sort(s.all)
		want := []string{`F {"a":1}`, `F {"a":1}`, `F {"a":1}`, `G {"at":"2000-01-01T00:01:00Z","n":1}`}
		if diff := cmp.Diff(want, s.all); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestWhatIsNotTakenIsTriedAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		retries int
		age     time.Duration
		want    []time.Duration
	}{
		"as the policy says": {3, time.Hour, []time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second}},
		"not at all":         {0, time.Hour, []time.Duration{0}},
		"until it is late":   {185, 10 * time.Second, []time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &sent{fail: 1000}
				run(t, time.Hour-time.Second, s, Schedule{Name: "a", Function: "F", Expression: parse(t, "rate(1 hour)", ""), MaxRetries: tt.retries, MaxAge: tt.age})
				if diff := cmp.Diff(tt.want, s.at); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		})
	}
}

// The event that a function gets which was given no input.
func TestTheEventOfScheduler(t *testing.T) {
	s := Schedule{Name: "Fire.Minute"}
	var got map[string]any
	if err := json.Unmarshal(s.payload(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), "id", 1), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"version": "0", "id": "id", "detail-type": "Scheduled Event", "source": "aws.scheduler", "account": "123456789012", "time": "2026-01-01T00:00:00Z", "region": "us-east-1",
		"resources": []any{"arn:aws:scheduler:us-east-1:123456789012:schedule/default/Fire.Minute"}, "detail": "{}",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheShippedTemplate(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "template.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	tmpl, err := template.Load(data, "template.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := FromTemplate(&tmpl.Schedules[0])
	if err != nil || s.Function != "Fire" || s.Expression.rate != time.Minute || s.MaxRetries != 0 || s.MaxAge != time.Minute {
		t.Errorf("%+v, %v", s, err)
	}
	for _, bad := range []template.Schedule{{Name: "n", Expression: "rate(30 seconds)"}, {Name: "n", Expression: "rate(1 day)", Input: "{"}} {
		if _, err := FromTemplate(&bad); err == nil || !strings.Contains(err.Error(), "schedule n") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
