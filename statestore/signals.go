package statestore

import (
	"context"
	"time"
)

// Signals are short messages and marks between functions that only save time: somebody is asked to look, somebody is at work.
// Either may be lost, or outlive its sender until its time is up, without changing any result. Names are at most 256 bytes. All
// methods are safe for concurrent use; stores that several processes share may implement it beside Store.
type Signals interface {
	// Post leaves a message (at most 64 KiB, not kept) for whoever takes it first, for at most ttl > 0. It reports false, and
	// changes nothing, where one waits already.
	Post(ctx context.Context, name string, message []byte, ttl time.Duration) (bool, error)
	// Take removes the message that waits and returns it; ok is false where there is none. Of two callers one gets it.
	Take(ctx context.Context, name string) (message []byte, ok bool, err error)
	// Hold sets a mark for ttl > 0 from now, whether it is set or not.
	Hold(ctx context.Context, name string, ttl time.Duration) error
	// Held reports whether the mark is set.
	Held(ctx context.Context, name string) (bool, error)
	// Release removes the mark; none is no error.
	Release(ctx context.Context, name string) error
}
