package redisstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// signalStart begins the keys of signals. Each is a string with an expiry, in a hash slot of its own.
const signalStart = "tm:signal:"

var _ statestore.Signals = (*Store)(nil)

// Post implements statestore.Signals.
func (s *Store) Post(ctx context.Context, name string, message []byte, ttl time.Duration) (bool, error) {
	key := signalStart + "message:" + name
	cmd := redis.NewStatusCmd(ctx, "set", key, message, "px", ttl.Milliseconds(), "nx")
	err := s.do(ctx, key, cmd)
	switch {
	case errors.Is(err, redis.Nil):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("post the signal %s: %w", name, err)
	}
	return true, nil
}

// Take implements statestore.Signals.
func (s *Store) Take(ctx context.Context, name string) ([]byte, bool, error) {
	key := signalStart + "message:" + name
	cmd := redis.NewStringCmd(ctx, "getdel", key)
	err := s.do(ctx, key, cmd)
	switch {
	case errors.Is(err, redis.Nil):
		return nil, false, nil
	case err != nil:
		return nil, false, fmt.Errorf("take the signal %s: %w", name, err)
	}
	message, err := cmd.Bytes()
	return message, err == nil, err
}

// Hold implements statestore.Signals.
func (s *Store) Hold(ctx context.Context, name string, ttl time.Duration) error {
	key := signalStart + "mark:" + name
	if err := s.do(ctx, key, redis.NewStatusCmd(ctx, "set", key, "1", "px", ttl.Milliseconds())); err != nil {
		return fmt.Errorf("hold the mark %s: %w", name, err)
	}
	return nil
}

// Held implements statestore.Signals.
func (s *Store) Held(ctx context.Context, name string) (bool, error) {
	key := signalStart + "mark:" + name
	cmd := redis.NewIntCmd(ctx, "exists", key)
	if err := s.do(ctx, key, cmd); err != nil {
		return false, fmt.Errorf("look for the mark %s: %w", name, err)
	}
	return cmd.Val() > 0, nil
}

// Release implements statestore.Signals.
func (s *Store) Release(ctx context.Context, name string) error {
	key := signalStart + "mark:" + name
	if err := s.do(ctx, key, redis.NewIntCmd(ctx, "del", key)); err != nil {
		return fmt.Errorf("release the mark %s: %w", name, err)
	}
	return nil
}
