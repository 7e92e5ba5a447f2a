package memstore

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// Signals implements statestore.Signals in memory. The zero value is ready.
type Signals struct {
	mu   sync.Mutex
	kept map[string]signal
}

type signal struct {
	message []byte
	until   time.Time
}

var _ statestore.Signals = (*Signals)(nil)

// put sets a signal; with the lock held.
func (s *Signals) put(key string, message []byte, ttl time.Duration) {
	if s.kept == nil {
		s.kept = map[string]signal{}
	}
	s.kept[key] = signal{bytes.Clone(message), time.Now().Add(ttl)}
}

// get returns a signal whose time is not up; with the lock held.
func (s *Signals) get(key string) (signal, bool) {
	found, ok := s.kept[key]
	return found, ok && time.Now().Before(found.until)
}

// Post implements statestore.Signals.
func (s *Signals) Post(_ context.Context, name string, message []byte, ttl time.Duration) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, waits := s.get("message " + name); waits {
		return false, nil
	}
	s.put("message "+name, message, ttl)
	return true, nil
}

// Take implements statestore.Signals.
func (s *Signals) Take(_ context.Context, name string) ([]byte, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok := s.get("message " + name)
	if !ok {
		return nil, false, nil
	}
	delete(s.kept, "message "+name)
	return found.message, true, nil
}

// Hold implements statestore.Signals.
func (s *Signals) Hold(_ context.Context, name string, ttl time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put("mark "+name, nil, ttl)
	return nil
}

// Held implements statestore.Signals.
func (s *Signals) Held(_ context.Context, name string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.get("mark " + name)
	return ok, nil
}

// Release implements statestore.Signals.
func (s *Signals) Release(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.kept, "mark "+name)
	return nil
}
