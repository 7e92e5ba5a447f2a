package redisstore

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// refusing is a server that answers every command with the error given.
func refusing(t *testing.T, answer string) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // the test is over
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for r := bufio.NewReader(c); ; {
					head, err := r.ReadString('\n')
					if err != nil {
						return
					}
					parts, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(head, "*")))
					for n := 2 * parts; n > 0 && err == nil; n-- { // a length and a text each
						_, err = r.ReadString('\n')
					}
					if err == nil {
						_, err = io.WriteString(c, answer+"\r\n")
					}
					if err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// A server that lets nobody in answers none of the commands that were sent together, and they are no successes.
func TestWhatWasNotLetInIsNotCommitted(t *testing.T) {
	for _, c := range []struct {
		answer string
		want   error
	}{
		{"-WRONGPASS invalid username-password pair or user is disabled.", statestore.ErrDenied},
		{"-NOAUTH Authentication required.", statestore.ErrDenied},
		{"-ERR max number of clients reached", statestore.ErrBusy},
		{"-LOADING Redis is loading the dataset in memory", statestore.ErrLoading},
		{"+OK", nil},
	} {
		for _, user := range []string{"", "user:hunter2@"} {
			s := of(t, "redis://"+user+refusing(t, c.answer))
			commits := make([]statestore.SlotCommit, 3)
			for i := range commits {
				commits[i] = statestore.SlotCommit{Slot: testSlot(), Commit: statestore.Commit{Applied: 1, Top: statestore.Token{1}, To: 5, MaxTime: 7, Now: event.Time(8)}}
				commits[i].Slot.Partition = int32(i)
			}
			for i, got := range s.CommitAll(t.Context(), commits) {
				switch {
				case got.Err == nil || c.want != nil && !errors.Is(got.Err, c.want):
					t.Errorf("%s: commit %d: %+v, %v; want %v", c.answer, i, got.Value, got.Err, c.want)
				case strings.Contains(got.Err.Error(), "hunter2"):
					t.Errorf("shows the password: %v", got.Err)
				case got.Value != (statestore.Meta{}):
					t.Errorf("%s: commit %d has a head: %+v", c.answer, i, got.Value)
				}
			}
			if _, err := s.Commit(t.Context(), commits[0].Slot, commits[0].Commit); err == nil {
				t.Errorf("%s: the commit alone succeeds", c.answer)
			}
		}
	}
}
