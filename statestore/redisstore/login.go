package redisstore

import (
	"context"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// login asks for user and password, and remembers that the last ones were not accepted.
type login struct {
	ask      func(ctx context.Context, rejected bool) (user, password string, err error)
	rejected atomic.Bool
}

// get is what the client asks before it uses a new connection.
func (l *login) get(ctx context.Context) (user, password string, err error) {
	return l.ask(ctx, l.rejected.Swap(false))
}

// refused notes an error of the client, and reports whether it is one that other credentials may mend: those that are kept may have
// been changed since. Nothing was run then.
func (l *login) refused(err error) bool {
	if l == nil || err == nil || !isAnswer(err) {
		return false
	}
	code := codeOf(err.Error())
	if code != "WRONGPASS" && code != "NOAUTH" {
		return false
	}
	l.rejected.Store(true)
	return true
}

// process sends a command, and once more with credentials that were asked for anew where those that were kept were refused.
func (s *Store) process(ctx context.Context, cmd redis.Cmder) error {
	err := s.client.Process(ctx, cmd)
	if s.login.refused(err) {
		cmd.SetErr(nil)
		err = s.client.Process(ctx, cmd)
	}
	return err
}
