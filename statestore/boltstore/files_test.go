package boltstore_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/boltstore"
)

var update = flag.Bool("update", false, "write the golden files")

// childDir is set where this binary runs as a process that is going to be killed.
const childDir = "TIDEMARK_BOLTSTORE_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		os.Exit(child(dir))
	}
	os.Exit(m.Run())
}

// child fills a store, says so and waits to be killed.
func child(dir string) int {
	s, err := boltstore.Open(dir, boltstore.Options{})
	if err == nil {
		err = write(s, 50)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	_, _ = bufio.NewReader(os.Stdin).ReadByte()
	return 0
}

var (
	ctx   = context.Background()
	slot  = statestore.Slot{Pipeline: "0123456789abcdef", TopicID: [16]byte{1, 2, 3}, Topic: "orders", Partition: 3}
	token = statestore.Token{7}
	lists = []statestore.SliceID{{Start: -60_000}, {Start: 0}, {Window: 1, Start: 60_000}, {Window: statestore.ListCounts}}
)

// write makes the slot and commits n times to every list.
func write(s statestore.Store, n int64) error {
	_, _, err := s.Restore(ctx, slot, statestore.Restore{Token: token, Watermark: event.MinTime, MaxTime: event.MinTime, Now: 5})
	for at := int64(0); at < n && err == nil; at++ {
		c := statestore.Commit{Applied: at, Top: token, To: at + 1, MaxTime: event.Time(at), Now: 6}
		for i, id := range lists {
			c.Deltas = append(c.Deltas, statestore.Delta{
				Ref:     statestore.DeltaRef{Slice: id, From: at, To: at + 1, Bucket: uint8(i), Owned: 1},
				Payload: []byte(strings.Repeat(fmt.Sprintf("service=%d ", at), 40*i)),
			})
		}
		_, err = s.Commit(ctx, slot, c)
	}
	return err
}

// check reads all that write wrote.
func check(s statestore.Store, n int64) error {
	refs, err := s.Index(ctx, slot, token, lists)
	if err != nil {
		return err
	}
	payloads, err := s.Read(ctx, slot, token, refs)
	if err != nil {
		return err
	}
	if len(payloads) != int(n)*len(lists) {
		return fmt.Errorf("%d deltas, want %d", len(payloads), int(n)*len(lists))
	}
	for i, p := range payloads {
		if want := strings.Repeat(fmt.Sprintf("service=%d ", refs[i].From), 40*int(refs[i].Bucket)); string(p) != want {
			return fmt.Errorf("payload %d is %q, want %q", i, p, want)
		}
	}
	return nil
}

// filled returns a directory with a closed store.
func filled(t *testing.T, o boltstore.Options) string {
	t.Helper()
	dir := t.TempDir()
	s := open(t, dir, o)
	if err := errors.Join(write(s, 50), check(s, 50), s.Close()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// opensWith opens a store that must have all that was written, or nothing and a notice that has the words.
func opensWith(t *testing.T, dir string, o boltstore.Options, words string) {
	t.Helper()
	s := open(t, dir, o)
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if words == "" {
		if s.Notice() != "" {
			t.Errorf("notice %q", s.Notice())
		}
		if err := check(s, 50); err != nil {
			t.Error(err)
		}
		return
	}
	if !strings.Contains(s.Notice(), words) || !strings.Contains(s.Notice(), filepath.Join(dir, "state.db")) {
		t.Errorf("notice %q, want the path and %q", s.Notice(), words)
	}
	if _, err := s.Load(ctx, slot); !errors.Is(err, statestore.ErrNoSlot) {
		t.Errorf("load: %v, want ErrNoSlot", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "state.db.set-aside")); err != nil {
		t.Errorf("the file that was moved: %v", err)
	}
	if err := errors.Join(write(s, 50), check(s, 50)); err != nil {
		t.Errorf("after beginning empty: %v", err)
	}
}

func TestStateSurvivesAClose(t *testing.T) {
	for _, o := range []boltstore.Options{{}, {Sync: true}} {
		dir := filled(t, o)
		opensWith(t, dir, boltstore.Options{}, "")
		opensWith(t, dir, boltstore.Options{Sync: true}, "")
	}
}

func TestStateSurvivesAKilledProcess(t *testing.T) {
	dir := t.TempDir()
	kill(t, dir)
	opensWith(t, dir, boltstore.Options{}, "")
}

func TestStateOfAMachineThatWentDownIsSetAside(t *testing.T) {
	for _, boot := range []string{"8a0a25a8-0000-0000-0000-000000000000", ""} {
		dir := t.TempDir()
		kill(t, dir)
		setMark(t, dir, "open "+boot)
		opensWith(t, dir, boltstore.Options{}, "the machine may have gone down")
		opensWith(t, dir, boltstore.Options{}, "") // once
	}
}

func TestSyncedStateSurvivesTheMachine(t *testing.T) {
	dir := filled(t, boltstore.Options{Sync: true})
	setMark(t, dir, "synced")
	opensWith(t, dir, boltstore.Options{}, "")
}

// kill fills a store in another process and kills that while it has the store open.
func kill(t *testing.T, dir string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	stdin, err := cmd.StdinPipe() // open, so that the child waits
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		t.Fatalf("child said %q, %v", line, err)
	}
	if _, err := boltstore.Open(dir, boltstore.Options{}); !errors.Is(err, boltstore.ErrBusy) || !strings.Contains(err.Error(), dir) {
		t.Errorf("open while another process has it: %v, want ErrBusy and the path", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("child ended well, want killed")
	}
}

// setMark writes the mark that says in which state the file is.
func setMark(t *testing.T, dir, mark string) {
	t.Helper()
	db, err := bolt.Open(filepath.Join(dir, "owner.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("owner")).Put([]byte("mark"), []byte(mark))
	}), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestOpenInTheSameProcessIsBusy(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, boltstore.Options{})
	if _, err := boltstore.Open(dir, boltstore.Options{}); !errors.Is(err, boltstore.ErrBusy) || !strings.Contains(err.Error(), dir) {
		t.Errorf("second open: %v, want ErrBusy and the path", err)
	}
	if err := errors.Join(write(s, 50), s.Close()); err != nil {
		t.Fatal(err)
	}
	opensWith(t, dir, boltstore.Options{}, "")
}

func TestDirectoryThatCannotBeMade(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below")} {
		if _, err := boltstore.Open(dir, boltstore.Options{}); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v, want an error that names it", dir, err)
		}
	}
}

// TestDamagedFilesNeverCrash damages a closed file. Either Open finds it, or a call does, and then the next Open begins empty.
func TestDamagedFilesNeverCrash(t *testing.T) {
	page := os.Getpagesize()
	rng := rand.New(rand.NewPCG(1, 1))
	for name, damage := range map[string]func(b []byte) []byte{
		"empty":         func([]byte) []byte { return []byte{} },
		"one byte":      func(b []byte) []byte { return b[:1] },
		"half a head":   func(b []byte) []byte { return b[:100] },
		"heads alone":   func(b []byte) []byte { return b[:2*page] },
		"cut in half":   func(b []byte) []byte { return b[:len(b)/2] },
		"zeros":         func(b []byte) []byte { clear(b); return b },
		"text":          func([]byte) []byte { return []byte(strings.Repeat("not a database\n", 10_000)) },
		"pages of zero": func(b []byte) []byte { clear(b[2*page:]); return b },
		"pages of noise": func(b []byte) []byte {
			for i := range b[2*page:] {
				b[2*page+i] = byte(rng.Uint32())
			}
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filled(t, boltstore.Options{})
			path := filepath.Join(dir, "state.db")
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage(b), 0o600); err != nil {
				t.Fatal(err)
			}
			s := open(t, dir, boltstore.Options{})
			if s.Notice() == "" && name != "empty" { // an empty file is a new one
				err := check(s, 50)
				if !errors.Is(err, statestore.ErrFormat) {
					t.Fatalf("damage was found neither by Open nor by a call: %v", err)
				}
				// What is cut off may be content alone, which shows in a name or a checksum: then the slot is unreadable, the file is
				// not, and the log has the rest.
				if !strings.Contains(err.Error(), "open it again") {
					if err := s.Close(); err != nil {
						t.Errorf("close: %v", err)
					}
					return
				}
				if again := write(s, 50); !errors.Is(again, statestore.ErrFormat) {
					t.Errorf("call after damage was found: %v, want ErrFormat", again)
				}
				if err := s.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
				opensWith(t, dir, boltstore.Options{}, "damaged")
				return
			}
			if err := errors.Join(write(s, 50), check(s, 50), s.Close()); err != nil {
				t.Error(err)
			}
			opensWith(t, dir, boltstore.Options{}, "")
		})
	}
}

func TestLostOwnerMeansDoubt(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"gone":    os.Remove,
		"damaged": func(path string) error { return os.WriteFile(path, []byte(strings.Repeat("?", 40_000)), 0o600) },
		"empty":   func(path string) error { return os.WriteFile(path, nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filled(t, boltstore.Options{})
			if err := spoil(filepath.Join(dir, "owner.db")); err != nil {
				t.Fatal(err)
			}
			opensWith(t, dir, boltstore.Options{}, "nothing says that it was closed")
			opensWith(t, dir, boltstore.Options{}, "")
		})
	}
}

// edit changes the slot's bucket in a closed file.
func edit(t *testing.T, dir string, change func(b *bolt.Bucket) error) {
	t.Helper()
	db, err := bolt.Open(filepath.Join(dir, "state.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(func(tx *bolt.Tx) error {
		return change(tx.Bucket([]byte("slots")).Bucket(statestore.AppendSlot(nil, slot)))
	}), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestUnreadableBytesAreErrFormat(t *testing.T) {
	for name, c := range map[string]struct {
		change func(b *bolt.Bucket) error
		call   func(s statestore.Store) error
	}{
		"no head": {
			func(b *bolt.Bucket) error { return b.Delete([]byte("head")) },
			func(s statestore.Store) error {
				_, _, err := s.Restore(ctx, slot, statestore.Restore{})
				return err
			},
		},
		"list of another name": {
			func(b *bolt.Bucket) error { _, err := b.CreateBucket([]byte("0000")); return err },
			func(s statestore.Store) error { _, err := s.Status(ctx, slot); return err },
		},
		"delta of another name": {
			func(b *bolt.Bucket) error {
				return b.Bucket(statestore.AppendSlice(nil, lists[0])).Put([]byte("zz"), []byte("x"))
			},
			func(s statestore.Store) error { _, err := s.Index(ctx, slot, token, lists); return err },
		},
		"damaged payload": {
			func(b *bolt.Bucket) error {
				l := b.Bucket(statestore.AppendSlice(nil, lists[3]))
				name, value := l.Cursor().First()
				value = append([]byte(nil), value...)
				value[10] ^= 1
				return l.Put(append([]byte(nil), name...), value)
			},
			func(s statestore.Store) error { return check(s, 50) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filled(t, boltstore.Options{})
			edit(t, dir, c.change)
			s := open(t, dir, boltstore.Options{})
			if err := c.call(s); !errors.Is(err, statestore.ErrFormat) {
				t.Errorf("%v, want ErrFormat", err)
			}
			if err := errors.Join(s.Drop(ctx, slot), write(s, 50), check(s, 50), s.Close()); err != nil {
				t.Errorf("after dropping the slot: %v", err)
			}
		})
	}
}

func TestCompressionMayChange(t *testing.T) {
	plain, packed := filled(t, boltstore.Options{}), filled(t, boltstore.Options{Compression: statestore.CodecLZ4})
	opensWith(t, plain, boltstore.Options{Compression: statestore.CodecLZ4}, "")
	opensWith(t, packed, boltstore.Options{}, "")
}

// TestStoredFile compares what is in a file, bucket by bucket, with a golden: a change of it needs a new version of the head.
func TestStoredFile(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, boltstore.Options{Compression: statestore.CodecLZ4})
	if err := errors.Join(write(s, 2), s.Close()); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	var dump func(indent string, b *bolt.Bucket) error
	dump = func(indent string, b *bolt.Bucket) error {
		return b.ForEach(func(k, v []byte) error {
			if sub := b.Bucket(k); sub != nil {
				fmt.Fprintf(&out, "%s%q sequence=%d\n", indent, k, sub.Sequence())
				return dump(indent+"  ", sub)
			}
			fmt.Fprintf(&out, "%s%q = %q\n", indent, k, v)
			return nil
		})
	}
	db, err := bolt.Open(filepath.Join(dir, "state.db"), 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			fmt.Fprintf(&out, "%q\n", name)
			return dump("  ", b)
		})
	}), db.Close()); err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "file.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(out.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), out.String()); diff != "" {
		t.Errorf("file (-want +got):\n%s", diff)
	}
}
