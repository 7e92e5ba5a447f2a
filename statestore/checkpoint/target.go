package checkpoint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// Keep is how many checkpoints of an app a target holds: should the newest be damaged, there are others.
const Keep = 3

// Suffix ends the names of checkpoints.
const Suffix = ".ckpt"

// Target is where checkpoints are kept. Other files may be there too, and checkpoints of other apps.
type Target interface {
	// List names the files of the target, in no particular order. A target that is not there yet is empty.
	List(ctx context.Context) ([]string, error)
	// Open opens a file, which the caller closes.
	Open(ctx context.Context, name string) (io.ReadSeekCloser, error)
	// Write makes a file of what write writes: all of it or, with an error, nothing.
	Write(ctx context.Context, name string, write func(w io.Writer) error) error
	// Remove removes a file.
	Remove(ctx context.Context, name string) error
	// Path is the name of a file as a user would write it.
	Path(name string) string
}

// timeLayout is fixed in width, so that the order of names is that of times.
const timeLayout = "20060102T150405.000Z"

// Name is the name of an app's checkpoint.
func Name(app string, created time.Time) string {
	return app + "." + created.UTC().Format(timeLayout) + Suffix
}

// ParseName tells whose checkpoint has a name, and when it was created; false if it is none.
func ParseName(name string) (app string, created time.Time, ok bool) {
	base, ok := strings.CutSuffix(name, Suffix)
	app, text, dot := strings.Cut(base, ".") // names of apps have no dot
	if !ok || !dot || app == "" {
		return "", time.Time{}, false
	}
	created, err := time.Parse(timeLayout, text)
	return app, created, err == nil && Name(app, created) == name
}

// names lists the checkpoints of an app, newest first.
func names(ctx context.Context, t Target, app string) ([]string, error) {
	all, err := t.List(ctx)
	if err != nil {
		return nil, err
	}
	mine := slices.DeleteFunc(all, func(name string) bool {
		whose, _, ok := ParseName(name)
		return !ok || whose != app
	})
	slices.SortFunc(mine, func(a, b string) int { return cmp.Compare(b, a) })
	return mine, nil
}

// Saved is what Save did.
type Saved struct {
	Totals
	Name    string
	Path    string
	Removed []string // names of older ones
	// Notice says why older ones could not be removed; empty if they were. The checkpoint is there in either case.
	Notice string
}

// Save exports slots to a target, under a name with the time that h says, and removes all but the newest Keep of the app. Where a
// newer one is there already, which means that a clock was set back, the name and the header say a moment after it.
func Save(ctx context.Context, t Target, store Source, h Header, slots []statestore.Slot, report func(Progress)) (Saved, error) {
	before, err := names(ctx, t, h.App)
	if err != nil {
		return Saved{}, fmt.Errorf("checkpoint of %s: %w", h.App, err)
	}
	if len(before) > 0 {
		_, newest, _ := ParseName(before[0])
		h.CreatedMS = max(h.CreatedMS, newest.UnixMilli()+1)
	}
	s := Saved{Name: Name(h.App, h.Created())}
	s.Path = t.Path(s.Name)
	err = t.Write(ctx, s.Name, func(w io.Writer) error {
		var err error
		s.Totals, err = Export(ctx, store, w, h, slots, report)
		return err
	})
	if err != nil {
		return Saved{}, fmt.Errorf("checkpoint %s: %w", s.Path, err)
	}
	var errs []error
	for _, name := range before[min(len(before), Keep-1):] {
		if err := t.Remove(ctx, name); err != nil {
			errs = append(errs, err)
			continue
		}
		s.Removed = append(s.Removed, name)
	}
	if err := errors.Join(errs...); err != nil {
		s.Notice = fmt.Sprintf("older checkpoints could not be removed: %v", err)
	}
	return s, nil
}

// Restored is what Restore did.
type Restored struct {
	Header Header
	Path   string
	Counts map[Outcome]int
	Passed []error // newer files that were not used, each with its path and why
}

// Restore imports from the newest checkpoint of an app that is whole, or from the one with a name if that is given, which then has
// to be the app's and whole. See Import for wanted and told. ErrNone if there is no such checkpoint.
func Restore(ctx context.Context, t Target, app, name string, store Sink, wanted func(slot statestore.Slot, m statestore.Meta) bool, told func(Result)) (Restored, error) {
	if name != "" {
		return restore(ctx, t, app, name, store, wanted, told)
	}
	all, err := names(ctx, t, app)
	if err != nil {
		return Restored{}, err
	}
	var passed []error
	for _, name := range all {
		r, err := restore(ctx, t, app, name, store, wanted, told)
		r.Passed = passed
		if err == nil || !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrVersion) && !errors.Is(err, errOther) {
			return r, err
		}
		passed = append(passed, err)
	}
	return Restored{Passed: passed}, fmt.Errorf("%s of app %s: %w", t.Path("*"+Suffix), app, errors.Join(append([]error{ErrNone}, passed...)...))
}

// errOther is returned for a checkpoint whose name is of one app and its content of another.
var errOther = errors.New("checkpoint: of another app")

func restore(ctx context.Context, t Target, app, name string, store Sink, wanted func(statestore.Slot, statestore.Meta) bool, told func(Result)) (r Restored, err error) {
	r = Restored{Path: t.Path(name), Counts: map[Outcome]int{}}
	defer func() {
		if err != nil {
			err = fmt.Errorf("checkpoint %s: %w", r.Path, err)
		}
	}()
	file, err := t.Open(ctx, name)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if r.Header, _, err = Read(file, Content{}); err != nil {
		return r, err
	}
	if r.Header.App != app {
		return r, fmt.Errorf("it is of app %s, not %s: %w", r.Header.App, app, errOther)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return r, err
	}
	_, err = Import(ctx, store, file, wanted, func(s Result) {
		r.Counts[s.Outcome]++
		told(s)
	})
	return r, err
}
