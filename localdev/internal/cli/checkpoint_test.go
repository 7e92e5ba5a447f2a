package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/statestore/boltstore"
)

// boltRun makes a run on brokers whose state stays, and returns what to call checkpoint and restore with, and where the state is.
func boltRun(t *testing.T) (args []string, state string) {
	t.Helper()
	config, _ := manySpec(t, "bolt", "unused")
	state = filepath.Join(t.TempDir(), "state")
	_, input := disordered(t, 400)
	brokers, _ := fakeKafka(t)
	ok(t, "run", "--config", config, "--brokers", brokers, "--create-topics", "--partitions", "4", "--state-dir", state, "--input", input, "--until-idle", "--listen", "off")
	return []string{"--config", config, "--state-dir", state}, state
}

// TestACheckpointBringsBackLostState takes a checkpoint of a run's state, loses the state, and restores it; again; from the file
// alone; and in JSON.
func TestACheckpointBringsBackLostState(t *testing.T) {
	args, state := boltRun(t)
	with := func(command string, more ...string) []string {
		return append(append([]string{command}, args...), more...)
	}
	dir := filepath.Join(t.TempDir(), "backup")
	a := ok(t, with("checkpoint", "--to", dir)...)
	files, err := filepath.Glob(filepath.Join(dir, "many.*.ckpt"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, %v", files, err)
	}
	if !strings.HasPrefix(a.out, files[0]+": 4 partitions, ") {
		t.Errorf("said %q", a.out)
	}
	lose := func() {
		t.Helper()
		if err := os.RemoveAll(state); err != nil {
			t.Fatal(err)
		}
	}
	outcomes := func(out string) (got []string) {
		for line := range strings.Lines(out) {
			got = append(got, strings.Fields(line)[0])
		}
		return got[:len(got)-1]
	}
	all := func(what string) []string { return []string{what, what, what, what} }

	lose()
	a = ok(t, with("restore", "--from", dir)...)
	if diff := cmp.Diff(all("imported"), outcomes(a.out)); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s\n%s", diff, a)
	}
	if !strings.Contains(a.out, "imported  p: in/0, offset ") || !strings.Contains(a.out, ": 4 imported, 0 there already, 0 of other pipelines\n") {
		t.Errorf("said\n%s", a.out)
	}
	a = ok(t, with("restore", "--from", dir)...)
	if diff := cmp.Diff(all("exists"), outcomes(a.out)); diff != "" {
		t.Errorf("outcomes of a second time (-want +got):\n%s\n%s", diff, a)
	}
	lose()
	said := objects(t, ok(t, with("restore", "--json", "--from", files[0])...).out)
	if len(said) != 5 || said[0]["type"] != "slot" || said[0]["outcome"] != "imported" || said[0]["topic"] != "in" || said[0]["pipeline"] != "p" ||
		said[4]["type"] != "restore" || said[4]["imported"] != 4.0 || said[4]["path"] != files[0] {
		t.Errorf("said %v", said)
	}

	// The same state again, into another place, in JSON; three more, of which the first goes.
	for n := range 4 {
		said = objects(t, ok(t, with("checkpoint", "--json", "--to", dir)...).out)
		removed, is := said[0]["removed"].([]any)
		if said[0]["type"] != "checkpoint" || said[0]["slots"] != 4.0 || !is || len(removed) != min(1, n/2) {
			t.Errorf("checkpoint %d: %v", n, said)
		}
	}

	// The newest is damaged: the one before serves, and that is said.
	files, err = filepath.Glob(filepath.Join(dir, "many.*.ckpt"))
	if err != nil || len(files) != 3 {
		t.Fatalf("files %v, %v", files, err)
	}
	if err := os.Truncate(files[2], 100); err != nil {
		t.Fatal(err)
	}
	lose()
	a = ok(t, with("restore", "--from", dir)...)
	if !strings.Contains(a.out, files[1]+" of ") || !strings.Contains(a.err, "checkpoint is not used") || !strings.Contains(a.err, files[2]) {
		t.Errorf("said\n%s", a)
	}
	if a := tidemark(t, with("restore", "--from", files[2])...); a.code != 1 || !strings.Contains(a.err, "damaged") || !strings.Contains(a.err, files[2]) {
		t.Errorf("the damaged one by name: %s", a)
	}
}

func TestSlotsOfOtherPipelinesAreForeign(t *testing.T) {
	args, _ := boltRun(t)
	dir := t.TempDir()
	ok(t, append([]string{"checkpoint", "--to", dir}, args...)...)
	text, err := os.ReadFile(args[1])
	if err != nil {
		t.Fatal(err)
	}
	other := write(t, "spec.yaml", strings.Replace(string(text), "gap: 60ms", "gap: 61ms", 1))
	a := ok(t, "restore", "--config", other, "--state-dir", filepath.Join(t.TempDir(), "state"), "--from", dir)
	if strings.Count(a.out, "foreign   ") != 4 || !strings.Contains(a.out, "0 imported, 0 there already, 4 of other pipelines") {
		t.Errorf("said\n%s", a.out)
	}
}

func TestStateThatARunHasIsNotTouched(t *testing.T) {
	args, state := boltRun(t)
	held, err := boltstore.Open(state, boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	for _, command := range []string{"checkpoint", "restore"} {
		dir := t.TempDir()
		flag := map[string]string{"checkpoint": "--to", "restore": "--from"}[command]
		if a := tidemark(t, append([]string{command, flag, dir}, args...)...); a.code != 1 || !strings.Contains(a.err, "end the run") {
			t.Errorf("%s: %s", command, a)
		}
		empty(t, dir)
	}
}

func TestCheckpointAndRestoreSayWhatIsMissing(t *testing.T) {
	bolt, _ := manySpec(t, "bolt", filepath.Join(t.TempDir(), "none"))
	redis, _ := manySpec(t, "redis", "unused")
	set, _ := manySpec(t, "bolt", "unused, checkpoint_path: "+filepath.Join(t.TempDir(), "none"))
	dir := t.TempDir()
	t.Setenv("AWS_REGION", "eu-west-3")
	t.Setenv("AWS_ACCESS_KEY_ID", "a")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "b")
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	t.Setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"checkpoint, redis is not named":     {[]string{"checkpoint", "--config", redis, "--to", dir}, 2, "--redis URL"},
		"checkpoint, redis is not there":     {[]string{"checkpoint", "--config", redis, "--redis", "redis://127.0.0.1:1", "--to", dir}, 1, "--redis"},
		"checkpoint, no place":               {[]string{"checkpoint", "--config", bolt, "--state-dir", dir}, 2, "--to DIR"},
		"checkpoint, a URL that is none":     {[]string{"checkpoint", "--config", bolt, "--state-dir", dir, "--to", "s3://"}, 2, "s3://BUCKET/PREFIX"},
		"checkpoint, no state":               {[]string{"checkpoint", "--config", bolt, "--to", dir}, 1, "--state-dir"},
		"checkpoint, empty state":            {[]string{"checkpoint", "--config", bolt, "--state-dir", dir, "--to", dir}, 1, "no state to keep"},
		"restore, redis is not named":        {[]string{"restore", "--config", redis, "--from", dir}, 2, "--redis URL"},
		"restore, no place":                  {[]string{"restore", "--config", bolt}, 2, "--from DIR"},
		"restore, a file that is missing":    {[]string{"restore", "--config", bolt, "--from", dir + "/none"}, 2, "--from"},
		"restore, no checkpoint there":       {[]string{"restore", "--config", bolt, "--state-dir", dir, "--from", dir}, 1, "none found"},
		"restore, the spec's place":          {[]string{"restore", "--config", set}, 1, "none found"},
		"restore, a URL that is none":        {[]string{"restore", "--config", bolt, "--from", "s3:///x"}, 2, "s3://BUCKET/PREFIX"},
		"restore, S3 does not answer":        {[]string{"restore", "--config", bolt, "--state-dir", dir, "--from", "s3://states/p"}, 1, "list s3://states/p/"},
		"restore, an object of that S3":      {[]string{"restore", "--config", bolt, "--state-dir", dir, "--from", "s3://states/p/many.20250101T123400.000Z.ckpt"}, 1, "get s3://states/p/many.20250101T123400.000Z.ckpt"},
		"restore, something else in the dir": {[]string{"restore", "--config", bolt, "--state-dir", dir, "--from", write(t, "notes.txt", "hello")}, 1, "notes.txt"},
	} {
		t.Run(name, func(t *testing.T) {
			if a := tidemark(t, c.args...); a.code != c.code || !strings.Contains(a.err, c.says) || a.out != "" {
				t.Errorf("%s\nwant exit code %d and %q", a, c.code, c.says)
			}
		})
	}
}
