// Package checkpoint keeps copies of slots outside of the store: in a directory or, by functions/bucket, in S3. State is a cache,
// so no result needs a checkpoint; a store that was lost reads less of the log if it gets one back. To the protocol a slot that
// was imported is one that returned to an earlier state of its own.
//
// A checkpoint has each slot as it was at one moment, its Applied, with everything that the store keeps of it; slots are not of
// one moment with each other, and need not be. ../DESIGN.md draws the file.
package checkpoint

import (
	"errors"
	"time"

	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// Version is what files are written in. Those of older versions are read, those of newer ones are refused.
const Version = 1

var (
	// ErrVersion is returned for a file that a newer program wrote.
	ErrVersion = errors.New("checkpoint: newer version")
	// ErrDamaged is returned for bytes that are no whole checkpoint; the message says where they stop being one.
	ErrDamaged = errors.New("checkpoint: damaged")
	// ErrChanging is returned by Export for a slot that was changed by plans again and again while it was read. A later export
	// will do.
	ErrChanging = errors.New("checkpoint: slot kept changing")
	// ErrNone is returned where there is no checkpoint of the app that can be read.
	ErrNone = errors.New("checkpoint: none found")
)

// Header says what a checkpoint is of.
type Header struct {
	App       string     `json:"app"`
	CreatedMS int64      `json:"created_ms"` // wall clock when the export began, Unix milliseconds
	Pipelines []Pipeline `json:"pipelines"`
}

// Pipeline is a pipeline whose slots are in a checkpoint.
type Pipeline struct {
	ID    string `json:"id"` // statestore.Slot.Pipeline
	Name  string `json:"name"`
	Group string `json:"group"` // consumer group that has its plans
}

// Created is when the export began, in UTC.
func (h Header) Created() time.Time { return time.UnixMilli(h.CreatedMS).UTC() }

// Has reports whether the header names a pipeline.
func (h Header) Has(id string) bool {
	for _, p := range h.Pipelines {
		if p.ID == id {
			return true
		}
	}
	return false
}

// Totals count what is in a checkpoint.
type Totals struct {
	Slots  int   `json:"slots"`
	Deltas int64 `json:"deltas"`
	Bytes  int64 `json:"bytes"` // of the file
}

// place names a slot in messages and as a key: its identity, without the topic's name.
func place(s statestore.Slot) statestore.Slot {
	s.Topic = ""
	return s
}
