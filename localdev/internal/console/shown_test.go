//go:build browser

package console_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/cli"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/console"
	"github.com/llm-auto-optimizer/tidemark/tests/output"
)

// tidemark runs a command until the test ends, and returns where its console is.
func tidemark(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs output.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() {
		done <- cli.Main(ctx, append(args, "--listen", "127.0.0.1:0"), cli.Streams{Out: &out, Err: &errs, Getenv: os.Getenv})
	}()
	t.Cleanup(func() {
		cancel()
		if code := <-done; code != 0 {
			t.Errorf("exit code %d\n%s", code, errs.String())
		}
	})
	errs.Await(t, "console: ")
	_, after, _ := strings.Cut(errs.String(), "console: ")
	at, _, _ := strings.Cut(after, "\n") // a line is written at once
	return at
}

// What `tidemark run` does is seen: windows close, lines are drawn, and all figures are there.
func TestARunIsSeenAtWork(t *testing.T) {
	at := tidemark(t, "run", "--rate", "400", "--speed", "6")
	for _, v := range []viewport{desktop, phone, {width: 1440, height: 1000, dark: true}, {width: 360, height: 780, phone: true, dark: true}} {
		t.Run(v.String(), func(t *testing.T) {
			p := open(t, at, v)
			p.await("windows have fired", `document.querySelectorAll("#timeline rect.bar.fired").length >= 2`)
			p.await("windows are open", `document.querySelectorAll("#timeline rect.bar.open").length >= 1`)
			p.await("a chart is drawn", drawn("#chart path.stroke"))
			p.await("a line of a key is drawn", drawn("#key-rows tr:nth-child(2) path.stroke"))
			p.await("throughput is drawn", drawn("#tiles .tile path.stroke"))
			p.await("who holds the watermark back is said", says("#pipelines .holding", "holds it back"))
			p.await("what fires next is said", says("#pipelines .next", "fires "))
			p.await("partitions are there", `document.querySelectorAll("#partition-rows tr").length === 4`)
			p.await("late records are there", says("#reasons", "late"))
			p.await("the ledger balances", says("#balance", "the books balance"))
			p.await("invocations are there", says("#function-rows", "ingest"))
			p.await("lines are there", says("#log-rows", "plan"))
			p.screenshot("busy-" + v.String())
			p.check()
		})
	}
}

var services = []string{"chat", "search", "images", "billing"}

// Records wait in a partition and nobody folds them: it is named, with what to do.
func TestAStuckPartitionIsNamed(t *testing.T) {
	now := time.Now()
	s := newStage(t, "retry", now.Add(-5*time.Minute))
	s.Clock = event.FromGo(now.Add(-40 * time.Second))
	s.minutes(2, services...)
	for i := range 1200 {
		s.append(3, record(s.Clock.Add(event.Span(i*10)), "billing", 1))
	}
	s.Clock = event.FromGo(now)
	for p := range int32(3) { // the others go on
		s.deliver(p, record(s.Clock, services[p], 5))
	}
	s.watch()
	for _, v := range []viewport{desktop, {width: 360, height: 780, phone: true, dark: true}} {
		t.Run(v.String(), func(t *testing.T) {
			p := open(t, s.url, v)
			p.await("the stuck partition is named", says("#trouble-list li", "performance-metrics/3 is stuck: 1200 offsets wait, and none was folded for "))
			p.await("what to do is said", says("#trouble-list .do", "see whether the trigger is enabled and delivers it"))
			p.await("it stands first in the list, as stuck", `document.querySelector("#partition-rows tr").textContent.includes("performance-metrics/3") && document.querySelector("#partition-rows tr").dataset.state === "stuck"`)
			p.await("the holder says why", says("#pipelines .holding", "performance-metrics/3 holds it back: 1200 offsets are not folded yet, none was folded for"))
			if got := eval[string](p, `getComputedStyle(document.getElementById("troubles")).display`); got == "none" {
				t.Error("the troubles are not shown")
			}
			p.screenshot("stuck-" + v.String())
			p.check()
		})
	}
}

// A record that nobody can read, under the policy fail, is named with its offset.
func TestABlockedPartitionIsNamed(t *testing.T) {
	s := newStage(t, "fail", time.Now().Add(-time.Minute))
	s.Clock = event.FromGo(time.Now())
	s.minutes(1, services...)
	if _, err := s.Deliver(t.Context(), s.append(1, "no JSON")); err != nil {
		t.Fatal(err)
	}
	s.watch()
	p := open(t, s.url, desktop)
	p.await("the record is named", says("#trouble-list li", "performance-metrics/1 is blocked under the policy fail: offset "))
	p.await("what to do is said", says("#trouble-list .do", "deploy the spec with another policy"))
	p.check()
}

// From the moment in which its result is in the topic, a fired window takes less than two seconds to be seen.
func TestAFiredWindowIsSeenWithinTwoSeconds(t *testing.T) {
	s := newStage(t, "retry", time.Now().Add(-time.Hour))
	s.Clock = event.FromGo(time.Now())
	s.minutes(2, services...)
	s.watch()
	p := open(t, s.url, desktop)
	p.await("windows are seen", `document.querySelectorAll("#timeline rect.bar.fired").length > 3`)
	for round := range 5 {
		end := s.Clock.Floor(10_000, 0).Add(10_000)
		s.Clock = end.Add(2500)
		for i := range services {
			s.deliver(int32(i), record(s.Clock, services[i], 7))
		}
		s.fire()
		fired := time.Now()
		id := fmt.Sprintf("checkout|10s|%d|%d", end.Add(-10_000), end)
		p.await("window "+id, fmt.Sprintf(`document.querySelector('[data-window=%s] rect.fired') !== null`, quote(id)))
		took := time.Since(fired)
		t.Logf("round %d: seen after %s", round, took)
		if took > 2*time.Second {
			t.Errorf("round %d: the window was seen after %s, want 2 s", round, took)
		}
	}
	p.check()
}

// Keys, values and lines that look like markup are shown as what they are.
func TestMarkupInRecordsIsText(t *testing.T) {
	evil := `<script>document.title="owned"</script><img src=x onerror="document.title='owned'">`
	s := newStage(t, "retry", time.Now().Add(-time.Hour))
	s.Clock = event.FromGo(time.Now())
	s.minutes(1, evil, "chat", evil, "search")
	s.deliver(0, `<b>no JSON</b> `+evil)
	s.deliver(1, record(s.Clock.Add(-900_000), evil, 1)) // late
	s.fire()
	s.watch()
	p := open(t, s.url, desktop)
	p.await("the key is a text", says("#key-rows button", evil))
	p.await("the record is a text", says("#reject-rows td", "<b>no JSON</b> "+evil[:20]))
	p.run(chromedp.Click(`#key-rows button.key`, chromedp.ByQuery))
	if n := eval[int](p, `document.querySelectorAll("main script, main img, main b").length`); n != 0 {
		t.Errorf("%d elements were made out of records", n)
	}
	if title := eval[string](p, `document.title`); strings.Contains(title, "owned") {
		t.Error("a script of a record has run")
	}
	p.screenshot("markup")
	p.check()
}

// Before anything has happened the page says what it waits for.
func TestAnEmptyConsoleSaysWhatItWaitsFor(t *testing.T) {
	s := newStage(t, "retry", time.Now())
	s.watch()
	for _, v := range []viewport{desktop, phone} {
		t.Run(v.String(), func(t *testing.T) {
			p := open(t, s.url, v)
			p.await("the pipeline is there", says("#pipelines h3", "checkout"))
			p.await("the partitions wait", says("#pipelines .holding", "it has had no record yet"))
			for _, empty := range []string{"#window-empty", "#key-empty", "#reject-empty", "#function-empty", "#log-empty"} {
				p.await(empty, fmt.Sprintf(`document.querySelector(%s).offsetParent !== null`, quote(empty)))
			}
			p.screenshot("empty-" + v.String())
			p.check()
		})
	}
}

// full is a board with 1,000 keys and 500 windows.
func full(t *testing.T) (*console.Board, *console.Server) {
	t.Helper()
	b, _ := withWindow(console.ModeKafka)
	for w := range 500 {
		for k := range 1000 {
			if w < 490 && (w+k)%50 != 0 { // the last windows have all keys
				continue
			}
			b.Published(result(fmt.Sprintf("service=s%d::model=m%04d", k%10, k), w*10_000, w, "on_time", fmt.Sprintf(`{"count":%d,"average":%d.5,"p99":%d}`, k+w%7, (k*w)%97, k)))
		}
	}
	s := serve(t, b)
	return b, s
}

// The page stays quick with 1,000 keys and 500 windows: no piece of work keeps the browser for long.
func TestManyKeysAndWindowsStayQuick(t *testing.T) {
	b, s := full(t)
	p := open(t, s.URL(), desktop)
	p.run(chromedp.Evaluate(`window.tasks = []; new PerformanceObserver((l) => { for (const e of l.getEntries()) tasks.push(e.duration); }).observe({ type: "longtask" }); null`, nil))
	p.await("keys are listed", `document.querySelectorAll("#key-rows tr").length === 50`)
	p.await("all are counted", says("#key-count", "1,000 keys"))
	for i := range 20 { // new windows come, five a second
		for k := range 200 {
			b.Published(result(fmt.Sprintf("service=s%d::model=m%04d", k%10, k), (500+i)*10_000, 500+i, "on_time", `{"count":1,"average":2,"p99":3}`))
		}
		p.await("it is seen", fmt.Sprintf(`document.getElementById("window-counts").textContent.includes("500 fired") && performance.now() > 0 && %d >= 0`, i))
	}
	p.run(chromedp.SendKeys("#search", "m0777", chromedp.ByID))
	took := p.await("a key is found", `document.querySelectorAll("#key-rows tr").length === 1 && document.querySelector("#key-rows").textContent.includes("m0777")`)
	p.run(chromedp.Click("#window-list summary", chromedp.ByQuery))
	p.await("the list is there", `document.querySelectorAll("#window-rows tr").length === 60`)
	tasks := eval[[]float64](p, `tasks`)
	longest := 0.0
	for _, d := range tasks {
		longest = max(longest, d)
	}
	t.Logf("a key was found in %s; %d pieces of work above 50 ms, the longest %.0f ms", took, len(tasks), longest)
	if longest > 500 {
		t.Errorf("a piece of work kept the browser for %.0f ms: %v", longest, tasks)
	}
	p.screenshot("full")
	p.check()
}

// All that a mouse can do, the keyboard can.
func TestTheKeyboardReachesEverything(t *testing.T) {
	s := newStage(t, "retry", time.Now().Add(-time.Hour))
	s.Clock = event.FromGo(time.Now())
	s.minutes(2, services...)
	s.deliver(0, "no JSON")
	s.fire()
	s.watch()
	p := open(t, s.url, desktop)
	p.await("windows are seen", `document.querySelectorAll("#timeline rect.bar.fired").length > 3`)
	p.await("keys are listed", `document.querySelectorAll("#key-rows tr").length === 4`)
	p.await("a chart is drawn", drawn("#chart path.stroke"))
	found := p.names(120)
	for _, want := range []string{"skip", "pause", "theme", "help", "#windows", "#logs", "narrow", "wide", "timeline", "source", "value", "sort", "search", "key", "chart", "log-level", "reject-table", "ledger-table", "api/"} {
		if !has(found, want) {
			t.Errorf("the Tab key does not lead to %q: %q", want, found)
		}
	}
	// Whatever has the focus can be seen to have it.
	p.run(chromedp.Focus("#pause", chromedp.ByID), chromedp.KeyEvent("\t"))
	if got := eval[string](p, `getComputedStyle(document.activeElement).outlineStyle + " " + document.activeElement.id`); got != "solid theme" {
		t.Errorf("the focus is shown as %q, want a solid outline of theme", got)
	}
	// The time line and the chart go from window to window.
	p.run(chromedp.Focus("#timeline", chromedp.ByID))
	press(p, "ArrowLeft", "ArrowLeft")
	p.await("a window is told of", says("#window-detail", "checkout, "))
	p.run(chromedp.Focus("#chart", chromedp.ByID))
	press(p, "Home")
	before := eval[string](p, `document.getElementById("chart-detail").textContent`)
	press(p, "ArrowRight")
	if after := eval[string](p, `document.getElementById("chart-detail").textContent`); after == before || after == "" {
		t.Errorf("the chart says %q, then %q", before, after)
	}
	// From key to key, and the one that is chosen.
	p.run(chromedp.Focus("#key-rows button", chromedp.ByQuery))
	press(p, "ArrowDown", "Enter")
	p.await("the second key is chosen", `document.querySelector("#key-rows tr:nth-child(2) button").getAttribute("aria-pressed") === "true"`)
	// Shortcuts.
	p.run(chromedp.Evaluate(`document.activeElement.blur()`, nil))
	press(p, "?")
	p.await("the list of shortcuts is open", `document.getElementById("help-dialog").open`)
	p.screenshot("help")
	press(p, "Escape")
	p.await("and closed", `!document.getElementById("help-dialog").open`)
	press(p, "/")
	p.await("the search has the focus", `document.activeElement.id === "search"`)
	p.run(chromedp.Evaluate(`document.activeElement.blur()`, nil))
	press(p, "4")
	p.await("the fourth section has the focus", `document.activeElement.id === "partitions"`)
	for _, theme := range []string{"light", "dark", "auto"} {
		press(p, "t")
		p.await("theme "+theme, fmt.Sprintf(`document.documentElement.dataset.theme === %s`, quote(theme)))
	}
	press(p, "p")
	p.await("it rests", `document.getElementById("link").textContent === "Paused"`)
	press(p, "p")
	p.await("it goes on", `document.getElementById("link").dataset.state === "live"`)
	// Everything that has no text has a name.
	if nameless := eval[[]string](p, `[...document.querySelectorAll("button, select, input, a, [tabindex='0']")].filter((n) => !(n.textContent.trim() || n.getAttribute("aria-label") || n.getAttribute("aria-labelledby") || n.labels?.length)).map((n) => n.outerHTML.slice(0, 100))`); len(nameless) > 0 {
		t.Errorf("without a name: %q", nameless)
	}
	p.check()
}

// press presses keys.
func press(p *page, keys ...string) {
	p.Helper()
	for _, key := range keys {
		text := key
		if len(key) > 1 {
			text = ""
		}
		if key == "Enter" {
			text = "\r"
		}
		p.run(input.DispatchKeyEvent(input.KeyDown).WithKey(key).WithCode(key).WithText(text).WithWindowsVirtualKeyCode(codes[key]), input.DispatchKeyEvent(input.KeyUp).WithKey(key).WithCode(key).WithWindowsVirtualKeyCode(codes[key]))
	}
}

var codes = map[string]int64{"Enter": 13, "Escape": 27, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}

// A console that has gone is said to have, and comes back by itself.
func TestALostConnectionIsSaidAndComesBack(t *testing.T) {
	b, _ := withWindow(console.ModeKafka)
	first, err := console.Listen(t.Context(), "127.0.0.1:0", b)
	if err != nil {
		t.Fatal(err)
	}
	p := open(t, first.URL(), phone)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	p.await("it is said", `document.getElementById("link").textContent.startsWith("Disconnected")`)
	p.screenshot("lost")
	again, err := console.Listen(t.Context(), strings.TrimPrefix(first.URL(), "http://"), b)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { err = errors.Join(err, again.Close()) }()
	p.await("it is live again", `document.getElementById("link").dataset.state === "live"`)
}
