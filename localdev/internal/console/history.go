package console

import "time"

const (
	// keepSeconds is how long a run's throughput is remembered.
	keepSeconds = 300
	// rateOver is the number of whole seconds that a rate is taken over.
	rateOver = 5
)

// second is what happened in one second.
type second struct {
	unix             int64
	records, results int64
	lag              int64 // as it was last seen
}

// history remembers the last seconds.
type history struct {
	seconds [keepSeconds + 1]second
}

// at returns the second of a time, to count in.
func (h *history) at(now time.Time) *second {
	unix := now.Unix()
	s := &h.seconds[unix%int64(len(h.seconds))]
	if s.unix != unix {
		*s = second{unix: unix, lag: h.lagBefore(unix)}
	}
	return s
}

func (h *history) lagBefore(unix int64) int64 {
	if s := h.seconds[(unix-1)%int64(len(h.seconds))]; s.unix == unix-1 {
		return s.lag
	}
	return 0
}

// rate counts whole seconds only, so that it does not jump while one passes.
func (h *history) rate(begun, now time.Time, of func(*second) int64) float64 {
	current, n := now.Unix(), int64(0)
	seconds := min(rateOver, current-begun.Unix())
	if seconds <= 0 {
		return 0
	}
	for unix := current - seconds; unix < current; unix++ {
		if s := &h.seconds[unix%int64(len(h.seconds))]; s.unix == unix {
			n += of(s)
		}
	}
	return float64(n) / float64(seconds)
}

// History is what a run did in its last seconds, oldest first: one number a second, the last one for the second before Until.
type History struct {
	UntilMS int64   `json:"until_ms"` // Unix milliseconds, a whole second
	Records []int64 `json:"records"`  // applied by ingest
	Results []int64 `json:"results"`  // seen in the result topics
	Lag     []int64 `json:"lag"`      // offsets not folded yet
}

// History returns the last whole seconds, at most 300. The caller owns it.
func (b *Board) History() History {
	b.mu.Lock()
	defer b.mu.Unlock()
	until := b.now().Unix()
	n := min(keepSeconds, until-b.begun.Unix())
	out := History{UntilMS: until * 1000, Records: make([]int64, 0, n), Results: make([]int64, 0, n), Lag: make([]int64, 0, n)}
	lag := int64(0)
	for unix := until - n; unix < until; unix++ {
		s := b.history.seconds[unix%int64(len(b.history.seconds))]
		if s.unix != unix {
			s = second{lag: lag}
		}
		lag = s.lag
		out.Records, out.Results, out.Lag = append(out.Records, s.records), append(out.Results, s.results), append(out.Lag, s.lag)
	}
	return out
}
