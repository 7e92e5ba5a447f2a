package spec_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/spec"
)

func TestAllProblemsAreReportedAtOnceInTheOrderOfTheFile(t *testing.T) {
	_, err := spec.Load([]byte(`app: No
procesor: {}
processor:
  parallelism: none
  windows:
    default_type: tumbling
    tumbling: {size_secs: 0}
  kafka: {producer: {acks: 0}}
pipelines:
  - name: p
    where: x >
    windows: [{type: session}, {type: tumbling, size: 5}]
    aggregates: {value: [avg]}
`), "f.yaml")
	if err == nil {
		t.Fatal("no error")
	}
	var got []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		where, _, _ := strings.Cut(line, ": ")
		path, _, _ := strings.Cut(strings.TrimPrefix(line, where+": "), ": ")
		got = append(got, where+" "+path)
	}
	want := []string{
		"f.yaml:1 app", "f.yaml:2 procesor", "f.yaml:4 processor.parallelism", "f.yaml:8 processor.kafka.producer.acks",
		"f.yaml:10 pipelines[0]", "f.yaml:10 pipelines[0]",
		"f.yaml:11 pipelines[0].where", "f.yaml:12 pipelines[0].windows[0].gap", "f.yaml:12 pipelines[0].windows[1].size", "f.yaml:13 pipelines[0].aggregates.value[0]",
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s\n%v", diff, err)
	}
	problems := spec.Problems(err)
	for i := 1; i < len(problems); i++ {
		if problems[i].Line < problems[i-1].Line {
			t.Errorf("line %d after line %d", problems[i].Line, problems[i-1].Line)
		}
	}
}

func TestAPlaceSharedByPipelinesIsReportedOnce(t *testing.T) {
	_, err := spec.Load([]byte(`
processor: {aggregation: {enabled: [median]}}
kafka: {consumer: {topics: [in]}, producer: {result_topic: in}}
pipelines: [{name: a}, {name: b}]
`), "")
	if got := len(spec.Problems(err)); got != 2 {
		t.Errorf("got %d problems, want 2: the function and the topic:\n%v", got, err)
	}
}

func TestManyProblemsAreCut(t *testing.T) {
	var b strings.Builder
	b.WriteString("pipelines:\n")
	for range 300 {
		b.WriteString("  - {nonsense: 1}\n")
	}
	_, err := spec.Load([]byte(b.String()), "f.yaml")
	if err == nil || !strings.Contains(err.Error(), " more") || strings.Count(err.Error(), "\n") != 100 {
		t.Errorf("got %.300v", err)
	}
}

func TestWhatIsNotASpecIsRefusedWithItsLine(t *testing.T) {
	f := func(name, text, want string) {
		t.Helper()
		app, err := spec.Load([]byte(text), "f.yaml")
		if app != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
	f("empty", "", "f.yaml:1: processor.kafka.consumer.topics: is required")
	f("only comments", "# nothing\n", "topics: is required")
	f("a string", "hello\n", "f.yaml:1: must be a mapping, got hello")
	f("a list", "- a\n", "must be a mapping, got a list")
	f("tab", "app: a\nprocessor:\n\tparallelism: 4\n", "f.yaml:3: cannot be read as YAML")
	f("open bracket", "app: a\npipelines: [{\n", "cannot be read as YAML")
	f("second document", "app: a\n---\napp: b\n", "f.yaml:3: a second YAML document")
	f("anchor", "app: &a x\n", "f.yaml:1: anchors, aliases and merge keys are not read")
	f("alias", "app: x\nprocessor: *a\n", "f.yaml:2: anchors, aliases")
	f("merge key", "app: x\n<<: {a: 1}\n", "f.yaml:2: anchors, aliases")
	f("tag", "app: !!str x\n", "f.yaml:1: tags and directives")
	f("directive", "%YAML 1.1\n---\napp: x\n", "tags and directives")
	f("explicit key", "? app\n: x\n", "explicit keys")
	f("not UTF-8", "app: a\n# \xff\n", "f.yaml:2: not UTF-8, got")
	f("JSON", `{"app": "No"}`, "f.yaml:1: app: is not a name")
	f("too long", strings.Repeat("#", 1<<20+1), "the file is longer than 1 MiB")
}

// A spec may come from anywhere: reading takes bounded time whatever it is. Each of these makes the YAML library alone run
// for minutes, or end the process for want of stack.
func TestBombsAreRefusedQuickly(t *testing.T) {
	for _, unit := range []string{"[", "{", "{a: ", "- ", "a: ", "? ", "&a ", "*a ", "!a ", "a: b\n", "- a\n", "#\n", "\"a\": b\n", "a:\n", "[a, ", "'", "\"", "|\n", "{a: [", "-\n", "- - \n"} {
		text := strings.Repeat(unit, (256<<10)/len(unit))
		done := make(chan error, 1)
		go func() {
			_, err := spec.Load([]byte(text), "bomb")
			done <- err
		}()
		select {
		case err := <-done:
			if err == nil {
				t.Errorf("%q repeated: no error", unit)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%q repeated: not read after 20 s", unit)
		}
	}
	var wide strings.Builder // within the bounds of a file, and a product of large numbers
	wide.WriteString(least + "pipelines:\n  - aggregates: [" + strings.Repeat("p1, ", 4000) + "]\n    values: {")
	for i := range 2500 {
		fmt.Fprintf(&wide, "a%d: x, ", i)
	}
	wide.WriteString("}\n")
	start := time.Now()
	if _, err := spec.Load([]byte(wide.String()), "wide"); err == nil || time.Since(start) > 20*time.Second {
		t.Errorf("4,000 functions of 2,500 values: %.200v after %v", err, time.Since(start))
	}
	var deep strings.Builder
	for i := range 600 {
		deep.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	if _, err := spec.Load([]byte(deep.String()), "deep"); err == nil || !strings.Contains(err.Error(), "nested too deep") {
		t.Errorf("600 levels: got %v", err)
	}
}

func TestLaughsAreNotMultiplied(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0: &a0 [x, x]\n")
	for i := 1; i < 20; i++ {
		b.WriteString(strings.NewReplacer("N", string(rune('a'+i)), "P", string(rune('a'+i-1))).Replace("N: &N [*P, *P]\n"))
	}
	if _, err := spec.Load([]byte(b.String()), ""); err == nil || !strings.Contains(err.Error(), "anchors") {
		t.Errorf("got %v", err)
	}
}

func TestValuesOfRefusedKeysAreNotShown(t *testing.T) {
	for _, key := range []string{"sasl_password", "sasl.password", "ssl_key_password"} {
		_, err := spec.Load([]byte("kafka: {consumer: {topics: [in], "+key+": hush-hush}, producer: {result_topic: out}}"), "")
		if err == nil || strings.Contains(err.Error(), "hush") || !strings.Contains(err.Error(), "TIDEMARK_KAFKA_SECRET") {
			t.Errorf("%s: got %v", key, err)
		}
	}
}

func FuzzLoad(f *testing.F) {
	data, err := os.ReadFile("../../tests/testdata/processor-config.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(spec.Example()))
	f.Add([]byte(least))
	for _, tables := range [][]wrong{wrongKeys(), wrongValues(), wrongWindows(), wrongQueries(), wrongKafka(), wrongInput(), notBuilt()} {
		for _, w := range tables {
			if w.whole {
				f.Add([]byte(w.text))
			} else {
				f.Add([]byte(least + w.text))
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		app, err := spec.Load(data, "fuzz.yaml")
		if (app == nil) == (err == nil) {
			t.Fatalf("app %v and error %v", app, err)
		}
		if err != nil {
			for _, p := range spec.Problems(err) {
				if p.Line < 1 || p.Message == "" {
					t.Fatalf("problem without a line or message: %+v", p)
				}
			}
			return
		}
		// What Load accepts must be what the checks of Go-built apps accept: two ways into one language.
		if err := app.Validate(); err != nil {
			t.Fatalf("Load accepts, Validate refuses: %v", err)
		}
		again, err := spec.Load(data, "fuzz.yaml")
		if diff := cmp.Diff(app, again); err != nil || diff != "" {
			t.Fatalf("the second reading differs: %v\n%s", err, diff)
		}
		for i := range app.Pipelines {
			if fp := app.Pipelines[i].Fingerprint(); len(fp) != 16 {
				t.Fatalf("fingerprint %q", fp)
			}
		}
	})
}
