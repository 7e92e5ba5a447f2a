package pipeline

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// sessionsInHistory is a pipeline whose history has all that an entry can have.
func sessionsInHistory(t testing.TB) (*Pipeline, HistoryUpdate) {
	t.Helper()
	p := compile(t, `[{name: w, type: tumbling, size: 10ms}, {name: s, type: session, gap: 5ms, allowed_lateness: 1s}]`, "    accumulation: retracting")
	row := fold(t, p, genesis, rec(0, 1, "a", 2)).Deltas[0].Payload
	it := p.groups(fold(t, p, genesis, rec(0, 1, "a", 2)).Deltas[0].Slice, row)
	it.next()
	return p, HistoryUpdate{
		PaneID{Def: 1, Window: window.Window{Start: -5, End: 25}, Key: "k=a|b"},
		&Sent{
			Next: 3, Records: 12, Pending: it.row, Results: []byte(`{"count":1}`),
			Out: []Out{{window.Window{Start: -5, End: 3}, 2, []byte(`{"count":1}`)}, {window.Window{Start: 7, End: 25}, 0, nil}},
		},
	}
}

// The record is stored as long as a window may go out again. A change of the golden is a new version.
func TestRecordsOfTheHistoryStayAsTheyAre(t *testing.T) {
	p, u := sessionsInHistory(t)
	key, value, err := p.HistoryRecord(17, u)
	if err != nil {
		t.Fatal(err)
	}
	got := append(append(append(key, '\n'), value...), '\n')
	path := filepath.Join("testdata", "history.v1")
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestRecordsOfTheHistoryComeBack(t *testing.T) {
	p, want := sessionsInHistory(t)
	key, value, err := p.HistoryRecord(17, want)
	if err != nil {
		t.Fatal(err)
	}
	got, plan, ok, err := p.ReadHistory(key, value)
	if diff := cmp.Diff(want, got); diff != "" || plan != 17 || !ok || err != nil {
		t.Errorf("plan %d, %t, %v\n%s", plan, ok, err, diff)
	}
	got, plan, ok, err = p.ReadHistory(key, nil)
	want.Sent = nil
	if diff := cmp.Diff(want, got); diff != "" || plan != 0 || !ok || err != nil {
		t.Errorf("forgotten: plan %d, %t, %v\n%s", plan, ok, err, diff)
	}
	if _, _, ok, err := p.ReadHistory([]byte("tidemark.default.p.0123456789abcdef|s|0|1|k=a"), value); ok || err != nil {
		t.Errorf("of another group: %t, %v", ok, err)
	}
	for name, c := range map[string]struct{ key, value string }{
		"a window that the pipeline does not have": {p.Group() + "|x|0|1|k=a", string(value)},
		"no window":                           {p.Group() + "|s|0", string(value)},
		"a window that ends before it starts": {p.Group() + "|s|5|1|k=a", string(value)},
		"no JSON":                             {string(key), "{"},
		"a newer version":                     {string(key), `{"version":2,"next":1}`},
		"no version":                          {string(key), `{"next":1}`},
		"a negative number":                   {string(key), `{"version":1,"next":-1}`},
		"a damaged row":                       {string(key), `{"version":1,"next":1,"pending":"AQID"}`},
	} {
		if _, _, ok, err := p.ReadHistory([]byte(c.key), []byte(c.value)); ok || !errors.Is(err, ErrPayload) {
			t.Errorf("%s: %t, %v", name, ok, err)
		}
	}
}

func FuzzReadHistory(f *testing.F) {
	p, u := sessionsInHistory(f)
	key, value, err := p.HistoryRecord(17, u)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(key, value)
	f.Add([]byte(p.Group()+"|w|0|10|"), []byte(`{"version":1,"out":[{"results":null}]}`))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		u, plan, ok, err := p.ReadHistory(key, value)
		if err != nil || !ok || u.Sent == nil {
			return
		}
		k, v, err := p.HistoryRecord(plan, u)
		if err != nil {
			t.Fatal(err)
		}
		again, _, ok, err := p.ReadHistory(k, v)
		if diff := cmp.Diff(u, again); err != nil || !ok || diff != "" {
			t.Fatalf("%v\n%s", err, diff)
		}
	})
}
