package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

const (
	// mostStreams bounds the pages that are open at once.
	mostStreams = 64
	// streamEvery is the least distance of two looks of a stream: so late a change may be.
	streamEvery = 200 * time.Millisecond
	// steady is the distance of events of sections that change with time alone.
	steady = time.Second
	// writeWithin is how long a page may take to read an event.
	writeWithin = 10 * time.Second
)

// events streams the sections of the board: all of them at first, then each that has changed.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		http.Error(w, "too many pages are open", http.StatusServiceUnavailable)
		return
	}
	defer s.leave()
	defer s.board.Watch()()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := stream{ResponseController: http.NewResponseController(w), w: w, board: s.board}
	tick := time.NewTicker(streamEvery)
	defer tick.Stop()
	for {
		next, err := out.send(time.Now())
		if err != nil {
			return // the page has gone
		}
		due := time.NewTimer(time.Until(out.second))
		select {
		case <-r.Context().Done():
		case <-next:
		case <-due.C:
		}
		due.Stop()
		select { // what changes often is sent together
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
	}
}

func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams == mostStreams {
		return false
	}
	s.streams++
	return true
}

func (s *Server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams--
}

// stream is one page's.
type stream struct {
	*http.ResponseController
	w      http.ResponseWriter
	board  *Board
	sent   [sections]uint64
	begun  bool
	second time.Time // when the sections that change by themselves are due
}

// send sends what has changed, and returns a channel that is closed with the next change.
func (s *stream) send(now time.Time) (<-chan struct{}, error) {
	versions, next := s.board.Changes()
	due := !now.Before(s.second)
	if due {
		s.second = now.Add(steady)
	}
	if err := s.SetWriteDeadline(now.Add(writeWithin)); err != nil {
		return nil, err
	}
	for section := range Section(sections) {
		byTime, often := false, false
		switch section {
		case SectionStatus, SectionHistory:
			byTime = true
		case SectionFunctions, SectionLogs, SectionRejects, SectionLedger: // once a second is enough of them
			often = true
		case SectionExplain, SectionWindows, SectionResults:
		}
		changed := versions[section] != s.sent[section] || !s.begun
		if byTime && !due || !byTime && !changed || often && !due && s.begun {
			continue
		}
		s.sent[section] = versions[section]
		data, err := json.Marshal(s.board.Section(section))
		if err != nil {
			return nil, err
		}
		if _, err := fmt.Fprintf(s.w, "event: %s\ndata: %s\n\n", section, data); err != nil {
			return nil, err
		}
	}
	s.begun = true
	return next, s.Flush()
}
