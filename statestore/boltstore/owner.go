package boltstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// The marks, under one key in one bucket. Each says in which state the file of the store is, whatever happens next.
const (
	ownerBucket = "owner"
	markKey     = "mark"

	markClosed  = "closed"  // synced and closed
	markSynced  = "synced"  // in use, every change synced
	markDamaged = "damaged" // found to be damaged
	markOpen    = "open "   // in use and not synced; then the id of the boot since when
)

func openMark(boot string) string { return markOpen + boot }

// owner is a small file beside the state: who has it locked has the directory, and its mark is always synced. It is a bbolt
// file for the sake of both.
type owner struct {
	db *bolt.DB
}

func openOwner(path string) (*owner, error) {
	db, err := lockOwner(path)
	if isDamage(err) {
		// Nobody can have it locked, for nobody can open it. Without it nothing is known of the state: doubt says so.
		if err := os.Remove(path); err != nil {
			return nil, err
		}
		db, err = lockOwner(path)
	}
	if err != nil {
		return nil, err
	}
	return &owner{db: db}, nil
}

func lockOwner(path string) (*bolt.DB, error) {
	var db *bolt.DB
	err := guard(func() error {
		var err error
		db, err = bolt.Open(path, filePerm, &bolt.Options{Timeout: lockTimeout})
		return err
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("%s is locked: %w", path, ErrBusy)
	}
	return db, err
}

// doubt says why the file at path must not be used as it is, or nothing.
func (o *owner) doubt(path string) (string, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	var mark string
	if err := guard(func() error {
		return o.db.View(func(tx *bolt.Tx) error {
			if b := tx.Bucket([]byte(ownerBucket)); b != nil {
				mark = string(b.Get([]byte(markKey)))
			}
			return nil
		})
	}); err != nil {
		return "", err
	}
	switch boot, open := strings.CutPrefix(mark, markOpen); {
	case mark == markClosed || mark == markSynced:
		return "", nil
	case open && boot != "" && boot == bootID():
		return "", nil // the process was killed, the machine has been up since
	case open:
		return "it was not closed, and the machine may have gone down since", nil
	case mark == markDamaged:
		return "it was found to be damaged", nil
	}
	return "nothing says that it was closed", nil
}

// write sets the mark and syncs it.
func (o *owner) write(mark string) error {
	return guard(func() error {
		return o.db.Update(func(tx *bolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte(ownerBucket))
			if err != nil {
				return err
			}
			return b.Put([]byte(markKey), []byte(mark))
		})
	})
}

func (o *owner) close() error { return o.db.Close() }
