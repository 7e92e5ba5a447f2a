package apply

import (
	"sort"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// Work is what calls of an Applier did. The zero value is empty; it is not safe for concurrent use.
type Work struct {
	Folded     int64           // records that were handed in, folded and committed
	Duplicates int64           // records that were handed in and had been applied before: also those of a commit whose answer was lost
	Repaired   int64           // records that were read from the log, folded and committed
	Fold       []time.Duration // how long each commit's records took to fold
	Commit     []time.Duration // how long each commit took; those that failed or met another writer are left out
}

func (w *Work) add(records int, fold, commit time.Duration) {
	w.Folded += int64(records)
	w.Fold, w.Commit = append(w.Fold, fold), append(w.Commit, commit)
}

// skipped counts as duplicates what of records lies below applied and was not folded just now.
func (w *Work) skipped(records []event.Record, applied, folded int64) {
	below := sort.Search(len(records), func(i int) bool { return records[i].Offset >= applied })
	w.Duplicates += max(int64(below)-folded, 0)
}

// Add adds what another call did.
func (w *Work) Add(o *Work) {
	w.Folded += o.Folded
	w.Duplicates += o.Duplicates
	w.Repaired += o.Repaired
	w.Fold, w.Commit = append(w.Fold, o.Fold...), append(w.Commit, o.Commit...)
}
