//go:build browser

package console_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// program is where the browser is. Without one the tests fail: a console that was not looked at in a browser was not tested.
func program(t *testing.T) string {
	t.Helper()
	found := os.Getenv("TIDEMARK_TEST_CHROMIUM")
	if found == "" {
		found = "chromium"
	}
	path, err := exec.LookPath(found)
	if err != nil {
		t.Fatalf(`no Chromium (%v): eval "$(tests/servers/chromium)" finds or installs one; make test-browser does both`, err)
	}
	return path
}

// page is a page of a headless browser. What the browser logs, and what it asks for, is kept.
type page struct {
	*testing.T
	ctx context.Context
	url string

	mu       sync.Mutex
	problems []string // errors of scripts, and what the browser's log has of warnings and errors
	requests []string
}

// viewport is the size of a screen, and how it is.
type viewport struct {
	width, height int64
	dark, phone   bool
}

func (v viewport) String() string {
	name := "desktop"
	if v.phone {
		name = "phone"
	}
	if v.dark {
		return name + "-dark"
	}
	return name + "-light"
}

var (
	desktop = viewport{width: 1440, height: 1000}
	phone   = viewport{width: 360, height: 780, phone: true}
)

// open opens a page and waits until it is live.
func open(t *testing.T, at string, v viewport) *page {
	t.Helper()
	alloc, end := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program(t)),
		chromedp.NoSandbox, chromedp.Flag("disable-dev-shm-usage", true), chromedp.WindowSize(int(v.width), int(v.height)),
		chromedp.WSURLReadTimeout(time.Minute))...)
	t.Cleanup(end)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil { // waits until the browser has gone
			t.Logf("end the browser: %v", err)
		}
		cancel()
	})
	p := &page{T: t, ctx: ctx, url: at}
	chromedp.ListenTarget(ctx, func(event any) {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			p.requests = append(p.requests, e.Request.URL)
		case *log.EventEntryAdded:
			if e.Entry.Level == log.LevelError || e.Entry.Level == log.LevelWarning {
				p.problems = append(p.problems, fmt.Sprintf("%s: %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL))
			}
		case *runtime.EventExceptionThrown:
			p.problems = append(p.problems, e.ExceptionDetails.Error())
		case *runtime.EventConsoleAPICalled:
			if e.Type == runtime.APITypeError || e.Type == runtime.APITypeWarning || e.Type == runtime.APITypeAssert {
				p.problems = append(p.problems, fmt.Sprint("console.", e.Type, " ", len(e.Args)))
			}
		}
	})
	scheme := "light"
	if v.dark {
		scheme = "dark"
	}
	p.run(network.Enable(), log.Enable(), emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
		emulation.SetDeviceMetricsOverride(v.width, v.height, 1, v.phone), chromedp.Navigate(at))
	p.await("the page is live", `document.getElementById("link").dataset.state === "live"`)
	return p
}

// run does something, within a time that only a broken page takes.
func (p *page) run(actions ...chromedp.Action) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, time.Minute)
	if p.url != "" && chromedp.FromContext(p.ctx).Target == nil { // the browser lives as long as the context that starts it
		cancel()
		ctx, cancel = p.ctx, func() {}
	}
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		p.Fatal(err)
	}
}

// eval returns what an expression comes to.
func eval[T any](p *page, expression string) (out T) {
	p.Helper()
	p.run(chromedp.Evaluate(expression, &out))
	return out
}

// await waits until an expression is true, and returns how long that took.
func (p *page) await(what, expression string) time.Duration {
	p.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(p.ctx, 30*time.Second)
	defer cancel()
	err := chromedp.Run(ctx, chromedp.Poll(expression, nil, chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(0)))
	if err != nil {
		var body string
		_ = chromedp.Run(p.ctx, chromedp.Evaluate("document.body.innerText", &body))
		p.Fatalf("%s: not in 30 s (%v); problems %q; the page says\n%.3000s", what, err, p.told(), body)
	}
	return time.Since(began)
}

// told returns what went wrong in the browser.
func (p *page) told() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string{}, p.problems...)
}

// check is what holds of every page: no error, nothing from anywhere else, nothing wider than the screen.
func (p *page) check() {
	p.Helper()
	if told := p.told(); len(told) > 0 {
		p.Errorf("the browser's log has %q", told)
	}
	home, err := url.Parse(p.url)
	if err != nil {
		p.Fatal(err)
	}
	p.mu.Lock()
	asked := append([]string{}, p.requests...)
	p.mu.Unlock()
	if len(asked) < 5 {
		p.Errorf("only %q was asked for: what is asked for is not seen", asked)
	}
	for _, r := range asked {
		if u, err := url.Parse(r); err != nil || u.Host != home.Host || u.Scheme != home.Scheme {
			p.Errorf("the page asked for %s, which is not the console", r)
		}
	}
	if wide := eval[[]string](p, `(() => {
		const limit = document.documentElement.clientWidth;
		if (document.documentElement.scrollWidth <= limit) return [];
		return ["the page is " + document.documentElement.scrollWidth + " wide, the screen " + limit].concat([...document.querySelectorAll("body *")]
			.filter((n) => n.getBoundingClientRect().right > limit + 1 && !n.parentElement.closest(".scroll, nav, svg")).slice(0, 5).map((n) => n.outerHTML.slice(0, 120)));
	})()`); len(wide) > 0 {
		p.Errorf("the page scrolls sideways: %q", wide)
	}
}

// screenshot keeps a picture of the whole page, if somebody wants to look at it: TIDEMARK_SCREENSHOTS names a directory.
func (p *page) screenshot(name string) {
	p.Helper()
	dir := os.Getenv("TIDEMARK_SCREENSHOTS")
	if dir == "" {
		return
	}
	var png []byte
	p.run(chromedp.FullScreenshot(&png, 100))
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600); err != nil {
		p.Fatal(err)
	}
}

// quote writes a string for a script.
func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// drawn is true where a line has been drawn: its path has an extent.
func drawn(selector string) string {
	return fmt.Sprintf(`(() => { const n = document.querySelector(%s); if (!n || !n.getAttribute("d")) return false; const b = n.getBBox(); return b.width > 5 && n.getTotalLength() > 5; })()`, quote(selector))
}

// says is true where a node has a text.
func says(selector, text string) string {
	return fmt.Sprintf(`[...document.querySelectorAll(%s)].some((n) => n.textContent.includes(%s))`, quote(selector), quote(text))
}

// names lists what has the focus, one press of the Tab key after the other, from the top of the page until it begins again.
func (p *page) names(most int) []string {
	p.Helper()
	var out []string
	for range most {
		p.run(chromedp.KeyEvent("\t"))
		at := eval[string](p, `(() => { const n = document.activeElement; return n === document.body ? "" : n.id || n.className || n.getAttribute("href") || n.textContent.trim().slice(0, 30); })()`)
		if at == "" || len(out) > 0 && at == out[0] {
			return out
		}
		out = append(out, at)
	}
	return out
}

// has reports whether one of the names is wanted.
func has(names []string, want string) bool {
	for _, n := range names {
		if strings.Contains(n, want) {
			return true
		}
	}
	return false
}
