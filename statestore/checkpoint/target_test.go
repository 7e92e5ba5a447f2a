package checkpoint_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/checkpoint"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
	"github.com/llm-auto-optimizer/tidemark/statestore/storetest"
)

// at is the header of a checkpoint some seconds later.
func at(seconds int64) checkpoint.Header {
	h := header()
	h.CreatedMS += seconds * 1000
	return h
}

func save(t *testing.T, target checkpoint.Target, s statestore.Store, h checkpoint.Header) checkpoint.Saved {
	t.Helper()
	saved, err := checkpoint.Save(t.Context(), target, s, h, allSlots(2), nil)
	if err != nil {
		t.Fatal(err)
	}
	return saved
}

// restore restores the newest checkpoint, or the one named, into an empty store.
func restore(t *testing.T, target checkpoint.Target, name string) (*memstore.Store, checkpoint.Restored, error) {
	t.Helper()
	s := memstore.New()
	r, err := checkpoint.Restore(t.Context(), target, "shop", name, s, everything, func(checkpoint.Result) {})
	return s, r, err
}

func filledStore(t *testing.T) *memstore.Store {
	t.Helper()
	s := memstore.New()
	for _, slot := range allSlots(2) {
		live(t, s, slot)
	}
	return s
}

func TestTheNewestThreeAreKept(t *testing.T) {
	dir := t.TempDir()
	target := checkpoint.NewDirectory(dir)
	others := []string{"notes.txt", "other-shop.20250101T123400.000Z.ckpt", "shop.yesterday.ckpt", "shop.20250101T1234.000Z.ckpt"}
	for _, name := range others {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := filledStore(t)
	var want []string
	for i := range int64(5) {
		saved := save(t, target, s, at(i))
		want = append(want, saved.Name)
		if saved.Notice != "" || len(saved.Removed) != int(max(0, min(1, i-2))) || saved.Slots != 2 || saved.Path != filepath.Join(dir, saved.Name) {
			t.Errorf("checkpoint %d: %+v", i, saved)
		}
	}
	if want[0] != "shop.20250101T123400.000Z.ckpt" {
		t.Errorf("the first is named %s", want[0])
	}
	want = append(want[2:], others...)
	slices.Sort(want)
	same(t, "files", want, sortedNames(t, target))
	_, r, err := restore(t, target, "")
	if err != nil || r.Header.CreatedMS != at(4).CreatedMS {
		t.Errorf("restored %+v, %v, want the newest", r, err)
	}
}

// A clock that was set back must not make an older state the newest.
func TestAClockThatWasSetBack(t *testing.T) {
	target := checkpoint.NewDirectory(t.TempDir())
	old := filledStore(t)
	save(t, target, old, at(100))
	for i := range int64(3) {
		saved := save(t, target, memstore.New(), at(0))
		if want := checkpoint.Name("shop", at(100).Created().Add(time.Duration(i+1)*time.Millisecond)); saved.Name != want {
			t.Errorf("named %s, want %s", saved.Name, want)
		}
	}
	_, r, err := restore(t, target, "")
	if err != nil || r.Counts[checkpoint.Imported] != 0 {
		t.Errorf("%+v, %v: want the last one, which has no slots", r, err)
	}
}

func TestAnExportThatFailsLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	target := checkpoint.NewDirectory(dir)
	s := filledStore(t)
	first := save(t, target, s, at(0))
	died := errors.New("died")
	broken := storetest.Hook(s, func(op string, slot statestore.Slot) error {
		if op == "Read" && slot.Partition == 1 {
			return died
		}
		return nil
	}, nil)
	_, err := checkpoint.Save(t.Context(), target, broken, at(1), allSlots(2), nil)
	if !errors.Is(err, died) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), slotOf(1).String()) {
		t.Errorf("%v, want the cause, the path and the slot", err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || left[0].Name() != first.Name {
		t.Errorf("left %v, %v, want %s alone", left, err, first.Name)
	}
}

func TestWhatAKilledProcessLeftIsRemovedLater(t *testing.T) {
	dir := t.TempDir()
	target := checkpoint.NewDirectory(dir)
	name := checkpoint.Name("shop", at(0).Created())
	for part, age := range map[string]time.Duration{name + ".part-1": 2 * time.Hour, name + ".part-2": time.Minute} {
		path := filepath.Join(dir, part)
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	same(t, "files", []string{}, sortedNames(t, target))
	save(t, target, filledStore(t), at(1))
	left, err := filepath.Glob(filepath.Join(dir, "*.part-*"))
	if err != nil || len(left) != 1 || !strings.HasSuffix(left[0], ".part-2") {
		t.Errorf("left %v, %v, want the one that may still be written", left, err)
	}
}

// TestTheNewestThatIsWholeServes damages the newest, or makes it one of a newer program or of another app.
func TestTheNewestThatIsWholeServes(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(b []byte) []byte
		want  error
	}{
		"damaged":   {func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, checkpoint.ErrDamaged},
		"truncated": {func(b []byte) []byte { return b[:len(b)-1] }, checkpoint.ErrDamaged},
		"empty":     {func([]byte) []byte { return nil }, checkpoint.ErrDamaged},
		"newer":     {func(b []byte) []byte { b[8]++; return b }, checkpoint.ErrVersion},
		"another app's": {func([]byte) []byte {
			h := header()
			h.App = "other"
			var b bytes.Buffer
			if _, err := checkpoint.Export(t.Context(), memstore.New(), &b, h, nil, nil); err != nil {
				t.Fatal(err)
			}
			return b.Bytes()
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			target := checkpoint.NewDirectory(t.TempDir())
			s := filledStore(t)
			save(t, target, s, at(0))
			newest := save(t, target, memstore.New(), at(1))
			b, err := os.ReadFile(newest.Path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(newest.Path, c.spoil(b), 0o600); err != nil {
				t.Fatal(err)
			}
			to, r, err := restore(t, target, "")
			if err != nil || len(r.Passed) != 1 || c.want != nil && !errors.Is(r.Passed[0], c.want) || !strings.Contains(r.Passed[0].Error(), newest.Path) {
				t.Fatalf("%+v, %v: want the older one, and why", r, err)
			}
			same(t, "slot", read(t, s, slotOf(1)), read(t, to, slotOf(1)))

			to, _, err = restore(t, target, newest.Name)
			if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), newest.Path) {
				t.Errorf("asked for by name: %v, want %v with the path", err, c.want)
			}
			if left, err := to.Slots(t.Context(), ""); err != nil || len(left) > 0 {
				t.Errorf("slots %v, %v of a checkpoint that was refused", left, err)
			}
		})
	}
}

func TestNoCheckpointIsErrNone(t *testing.T) {
	dir := t.TempDir()
	for _, target := range []*checkpoint.Directory{checkpoint.NewDirectory(dir), checkpoint.NewDirectory(filepath.Join(dir, "not there"))} {
		if _, _, err := restore(t, target, ""); !errors.Is(err, checkpoint.ErrNone) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "shop") {
			t.Errorf("%v, want ErrNone with path and app", err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, checkpoint.Name("shop", at(0).Created())), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := restore(t, checkpoint.NewDirectory(dir), ""); !errors.Is(err, checkpoint.ErrNone) || !errors.Is(err, checkpoint.ErrDamaged) {
		t.Errorf("%v, want ErrNone and what is wrong with the one that is there", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "not there")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("looking for checkpoints made a directory: %v", err)
	}
}

func TestASlotThatIsNotWantedIsForeign(t *testing.T) {
	target := checkpoint.NewDirectory(t.TempDir())
	save(t, target, filledStore(t), at(0))
	s := memstore.New()
	var told []checkpoint.Result
	r, err := checkpoint.Restore(t.Context(), target, "shop", "", s, func(slot statestore.Slot, m statestore.Meta) bool {
		return slot.Partition == 1 && m.Applied == 90
	}, func(r checkpoint.Result) { told = append(told, r) })
	if err != nil {
		t.Fatal(err)
	}
	same(t, "results", []checkpoint.Result{
		{Slot: slotOf(0), Applied: 90, Outcome: checkpoint.Foreign}, {Slot: slotOf(1), Applied: 90, Deltas: 16, Outcome: checkpoint.Imported},
	}, told)
	same(t, "counts", map[checkpoint.Outcome]int{checkpoint.Foreign: 1, checkpoint.Imported: 1}, r.Counts)
	if left, err := s.Slots(t.Context(), ""); err != nil || len(left) != 1 {
		t.Errorf("slots %v, %v, want one", left, err)
	}
}

// TestAStoreThatFailsEndsTheImport has each operation fail; what was imported before stays, and is told.
func TestAStoreThatFailsEndsTheImport(t *testing.T) {
	target := checkpoint.NewDirectory(t.TempDir())
	save(t, target, filledStore(t), at(0))
	died := errors.New("died")
	for _, op := range []string{"Load", "Import"} {
		s := memstore.New()
		broken := storetest.Hook(s, func(at string, slot statestore.Slot) error {
			if at == op && slot.Partition == 1 {
				return died
			}
			return nil
		}, nil)
		r, err := checkpoint.Restore(t.Context(), target, "shop", "", broken, everything, func(checkpoint.Result) {})
		if !errors.Is(err, died) || r.Counts[checkpoint.Imported] != 1 || r.Counts[checkpoint.Exists]+r.Counts[checkpoint.Foreign] > 0 {
			t.Errorf("%s fails: %+v, %v", op, r, err)
		}
	}
}

// A slot that came into being between the look and the import is left alone.
func TestASlotThatIsMadeMeanwhileStays(t *testing.T) {
	target := checkpoint.NewDirectory(t.TempDir())
	save(t, target, filledStore(t), at(0))
	s := memstore.New()
	raced := storetest.Hook(s, func(op string, slot statestore.Slot) error {
		if op != "Import" || slot.Partition != 0 {
			return nil
		}
		_, _, err := s.Restore(t.Context(), slot, statestore.Restore{Token: token(7), Offset: 1})
		return err
	}, nil)
	r, err := checkpoint.Restore(t.Context(), target, "shop", "", raced, everything, func(checkpoint.Result) {})
	if err != nil || r.Counts[checkpoint.Exists] != 1 || r.Counts[checkpoint.Imported] != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if m, err := s.Load(t.Context(), slotOf(0)); err != nil || m.Top.Token != token(7) {
		t.Errorf("the slot is %+v, %v", m, err)
	}
}

func TestADirectoryThatCannotBeWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	target := checkpoint.NewDirectory(file)
	errReady := target.Ready()
	_, errSave := checkpoint.Save(t.Context(), target, memstore.New(), header(), nil, nil)
	_, _, errRestore := restore(t, target, "")
	for what, err := range map[string]error{"ready": errReady, "save": errSave, "restore": errRestore} {
		if err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v, want an error with the path", what, err)
		}
	}
	dir := filepath.Join(t.TempDir(), "a", "b")
	if err := checkpoint.NewDirectory(dir).Ready(); err != nil {
		t.Errorf("a directory that is not there yet: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// stuck is a target in which nothing can be removed.
type stuck struct{ checkpoint.Target }

func (stuck) Remove(context.Context, string) error { return errors.New("not allowed") }

func TestACheckpointStandsWhereOlderOnesCannotBeRemoved(t *testing.T) {
	target := stuck{checkpoint.NewDirectory(t.TempDir())}
	s := filledStore(t)
	for i := range int64(4) {
		saved := save(t, target, s, at(i))
		if told := strings.Contains(saved.Notice, "not allowed"); told != (i == 3) {
			t.Errorf("checkpoint %d: %+v", i, saved)
		}
	}
	if got := sortedNames(t, target); len(got) != 4 {
		t.Errorf("%v, want 4", got)
	}
}

func TestNamesAreReadAsTheyAreWritten(t *testing.T) {
	when := time.UnixMilli(created + 7)
	app, at, ok := checkpoint.ParseName(checkpoint.Name("my_app-1", when))
	if app != "my_app-1" || !at.Equal(when) || !ok {
		t.Errorf("%q, %s, %v", app, at, ok)
	}
	for _, name := range []string{"", ".ckpt", "a.ckpt", ".20250101T123400.000Z.ckpt", "a.20250101T123400.000Z", "a.20251301T123400.000Z.ckpt", "a.b.20250101T123400.000Z.ckpt"} {
		if app, _, ok := checkpoint.ParseName(name); ok {
			t.Errorf("%q is read as one of %q", name, app)
		}
	}
}
