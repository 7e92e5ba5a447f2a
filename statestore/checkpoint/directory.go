package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	filePerm = 0o600
	dirPerm  = 0o700
	// abandoned is the age at which a file that was never finished is taken for what a killed process left.
	abandoned = time.Hour
	partMark  = ".part-"
)

// Directory is a Target on a disk. A checkpoint is written to a file of another name, synced, and renamed.
type Directory struct{ path string }

var _ Target = (*Directory)(nil)

// NewDirectory returns the target at a path. Nothing is made or read yet.
func NewDirectory(path string) *Directory { return &Directory{path: path} }

// Ready makes the directory if it is not there and reports whether files can be made in it, which later writes will do.
func (d *Directory) Ready() error {
	if err := os.MkdirAll(d.path, dirPerm); err != nil {
		return fmt.Errorf("checkpoints in %s: %w", d.path, err)
	}
	probe, err := os.CreateTemp(d.path, "probe"+partMark)
	if err != nil {
		return fmt.Errorf("checkpoints in %s: %w", d.path, err)
	}
	if err := errors.Join(probe.Close(), os.Remove(probe.Name())); err != nil {
		return fmt.Errorf("checkpoints in %s: %w", d.path, err)
	}
	return nil
}

// Path implements Target.
func (d *Directory) Path(name string) string { return filepath.Join(d.path, name) }

// List implements Target.
func (d *Directory) List(context.Context) ([]string, error) {
	entries, err := os.ReadDir(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoints in %s: %w", d.path, err)
	}
	out := make([]string, 0, len(entries))
	for _, e := range entries {
		if e.Type().IsRegular() && !strings.Contains(e.Name(), partMark) {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// Open implements Target.
func (d *Directory) Open(_ context.Context, name string) (io.ReadSeekCloser, error) {
	return os.Open(d.Path(name))
}

// Write implements Target. It also removes what processes left that were killed while they wrote.
func (d *Directory) Write(_ context.Context, name string, write func(w io.Writer) error) (err error) {
	if err := os.MkdirAll(d.path, dirPerm); err != nil {
		return err
	}
	d.tidy()
	file, err := os.CreateTemp(d.path, name+partMark)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreGone(os.Remove(file.Name())))
		}
	}()
	err = write(file)
	if err == nil {
		err = errors.Join(file.Chmod(filePerm), file.Sync())
	}
	err = errors.Join(err, file.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(file.Name(), d.Path(name)); err != nil {
		return err
	}
	return syncDirectory(d.path)
}

// syncDirectory makes a rename durable. Not every system can sync a directory; those that cannot say so, and lose no file by it
// but at most the newest.
func syncDirectory(path string) error {
	dir, err := os.Open(path) //nolint:gosec // the directory that the user names
	if err != nil {
		return err
	}
	if err := dir.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrInvalid) {
		return errors.Join(err, dir.Close())
	}
	return dir.Close()
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// tidy removes old unfinished files. What it cannot remove stays: it is in nobody's way but the disk's.
func (d *Directory) tidy() {
	left, err := filepath.Glob(filepath.Join(d.path, "*"+Suffix+partMark+"*"))
	if err != nil {
		return
	}
	for _, name := range left {
		if info, err := os.Stat(name); err == nil && time.Since(info.ModTime()) > abandoned {
			_ = os.Remove(name)
		}
	}
}

// Remove implements Target.
func (d *Directory) Remove(_ context.Context, name string) error {
	return ignoreGone(os.Remove(d.Path(name)))
}
