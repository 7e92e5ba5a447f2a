// Package boltstore is the state store in one file on a disk, for one process: the default of a laptop. See ../DESIGN.md for
// what is in the file.
//
// By default the file is not synced while it is in use. A process that is killed loses nothing, since the machine has the
// writes; a machine that goes down may lose some and keep later ones, which would damage the file. Open finds that out from a
// mark that is always synced, and begins with an empty file, which the log rebuilds.
package boltstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// The files in a store's directory.
const (
	fileName     = "state.db"
	ownerName    = "owner.db"
	asideSuffix  = ".set-aside"
	lockTimeout  = 500 * time.Millisecond
	slotsBucket  = "slots"
	filePerm     = 0o600
	dirPerm      = 0o700
	fillOfAppend = 0.9 // deltas arrive in ascending order
)

// ErrBusy is returned by Open when another process, or another Store of this one, has the directory open.
var ErrBusy = errors.New("boltstore: in use by another process")

// Options say how a store keeps its file. The zero value is the default of a laptop.
type Options struct {
	// Sync makes every change durable before it is answered, at the price of a disk flush for each. Without it, what is in the
	// file survives the process but not the machine; results are exact either way.
	Sync bool
	// Compression is how payloads are written; what is there may have been written with another.
	Compression statestore.Codec
}

// Store implements statestore.Store. Writes of all slots take turns; reads go on beside them.
type Store struct {
	db     *bolt.DB
	owner  *owner
	codec  statestore.Codec
	path   string
	notice string
	broken atomic.Pointer[error] // why the file cannot be used any more
}

var _ statestore.Store = (*Store)(nil)

// Open opens the store in a directory, making both if they are not there. A file that is damaged, or may be, is moved aside (in
// the place of one that was moved earlier) and the store begins empty: Notice tells. ErrBusy, with the path, if another
// process has it.
func Open(dir string, o Options) (*Store, error) {
	if err := os.MkdirAll(dir, dirPerm); err != nil {
		return nil, fmt.Errorf("open state in %s: %w", dir, err)
	}
	own, err := openOwner(filepath.Join(dir, ownerName))
	if err != nil {
		return nil, fmt.Errorf("open state in %s: %w", dir, err)
	}
	s := &Store{owner: own, codec: o.Compression, path: filepath.Join(dir, fileName)}
	if err := s.open(o); err != nil {
		return nil, fmt.Errorf("open state in %s: %w", dir, errors.Join(err, own.close()))
	}
	return s, nil
}

func (s *Store) open(o Options) error {
	doubt, err := s.owner.doubt(s.path)
	if err != nil {
		return err
	}
	if doubt == "" {
		s.db, err = openFile(s.path)
		if isDamage(err) {
			doubt = err.Error()
		} else if err != nil {
			return err
		}
	}
	if doubt != "" {
		aside := s.path + asideSuffix
		if err := os.Rename(s.path, aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		s.notice = fmt.Sprintf("%s was moved to %s (%s): the state begins empty and is rebuilt from the log", s.path, aside, doubt)
		if s.db, err = openFile(s.path); err != nil {
			return err
		}
	}
	// The mark comes first: from here on the file may be damaged if the machine goes down.
	mark := openMark(bootID())
	if o.Sync {
		if err := s.db.Sync(); err != nil { // what an earlier process left to the machine
			return errors.Join(err, s.db.Close())
		}
		mark = markSynced
	}
	if err := s.owner.write(mark); err != nil {
		return errors.Join(err, s.db.Close())
	}
	s.db.NoSync = !o.Sync
	s.db.NoGrowSync = !o.Sync
	return nil
}

// openFile opens or makes the file, which nobody else has, and sees to it that the bucket of slots is there.
func openFile(path string) (db *bolt.DB, err error) {
	err = guard(func() error {
		var err error
		// The list of free pages is stored: finding them anew reads the file in a goroutine that cannot be guarded.
		db, err = bolt.Open(path, filePerm, &bolt.Options{Timeout: lockTimeout, FreelistType: bolt.FreelistMapType})
		if err != nil {
			return err
		}
		return db.Update(func(tx *bolt.Tx) error {
			_, err := tx.CreateBucketIfNotExists([]byte(slotsBucket))
			return err
		})
	})
	if err == nil {
		return db, nil
	}
	if db != nil && !isDamage(err) {
		err = errors.Join(err, db.Close()) // of a damaged file a close may wait for ever
	}
	if errors.Is(err, bolterrors.ErrTimeout) {
		err = fmt.Errorf("%s: %w", path, ErrBusy)
	}
	return nil, err
}

// Notice says in a sentence what an operator should know of how the store was opened; empty if there is nothing to say.
func (s *Store) Notice() string { return s.notice }

// Close syncs the file and releases the directory. Calls that are under way end first.
func (s *Store) Close() error {
	if s.broken.Load() != nil {
		return s.owner.close() // the mark tells the next Open; closing a damaged file may wait for ever
	}
	err := guard(func() error {
		if err := s.db.Sync(); err != nil {
			return err
		}
		return s.db.Close()
	})
	if err == nil {
		err = s.owner.write(markClosed)
	}
	if err = errors.Join(err, s.owner.close()); err != nil {
		return fmt.Errorf("close %s: %w", s.path, err)
	}
	return nil
}

// errDamage is the error of a file whose structure is damaged.
var errDamage = errors.New("damaged file")

// guard runs something that reads a mapped file. What a damaged one makes panic, or fault, comes back as an error.
func guard(run func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v: %w: %w", r, errDamage, statestore.ErrFormat)
		}
	}()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	return run()
}

// isDamage tells a file that cannot be understood from one that cannot be reached.
func isDamage(err error) bool {
	if err == nil || errors.Is(err, ErrBusy) || errors.Is(err, bolterrors.ErrTimeout) {
		return false
	}
	var errno syscall.Errno
	var path *fs.PathError
	return errors.Is(err, errDamage) || !errors.As(err, &errno) && !errors.As(err, &path)
}

// use runs a transaction. After damage was found no other is begun: bbolt's locks may be held for ever.
func (s *Store) use(run func() error) error {
	if broken := s.broken.Load(); broken != nil {
		return *broken
	}
	err := guard(run)
	if errors.Is(err, errDamage) {
		err = fmt.Errorf("%s: %w; open it again to begin empty", s.path, err)
		if s.broken.CompareAndSwap(nil, &err) {
			return errors.Join(err, s.owner.write(markDamaged))
		}
	}
	return err
}
