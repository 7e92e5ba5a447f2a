//go:build servers

package preflight_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/preflight"
	"github.com/llm-auto-optimizer/tidemark/functions/settings"
	"github.com/llm-auto-optimizer/tidemark/tests/servers"
)

func TestTheTrialLeavesNothingOnRealBrokers(t *testing.T) {
	c := open(t, servers.Brokers(t))
	d := appOn(t, c, fmt.Sprintf("preflight-%x", time.Now().UnixNano()))
	leavesNothing(t, c, d)
	groups, err := c.Groups(t.Context(), "tidemark."+d.App.Name+".")
	if err != nil || len(groups) != 0 {
		t.Errorf("groups %v are left, %v", groups, err)
	}
}

// Looks at once fence each other, and find that transactions work all the same.
func TestTrialsAtOnceOnRealBrokers(t *testing.T) {
	c := open(t, servers.Brokers(t))
	d := appOn(t, c, fmt.Sprintf("preflight-%x", time.Now().UnixNano()))
	const looks = 6
	errs := make(chan error)
	for range looks {
		go func() {
			report, err := preflight.Check(t.Context(), d)
			if err == nil && report.Transactions != preflight.TransactionsWork {
				err = fmt.Errorf("%+v", report)
			}
			errs <- err
		}()
	}
	for range looks {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// The settings of real topics, brokers and state stores are read as they are.
func TestRealSettingsAreFound(t *testing.T) {
	ctx := t.Context()
	c := open(t, servers.Brokers(t))
	d := appOn(t, c, fmt.Sprintf("preflight-%x", time.Now().UnixNano()))
	events, late := d.App.Name+"-events", d.App.Name+"-results-late"
	remake(ctx, t, c, events, map[string]string{"cleanup.policy": "compact,delete", "retention.ms": "60000", "retention.bytes": "1000000"})
	remake(ctx, t, c, late, map[string]string{"max.message.bytes": "1000"})
	store, err := settings.OpenRedis(ctx, d.App, []string{servers.Redis(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	d.Store = store
	report, err := preflight.Check(ctx, d)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct{ check, subject string }{
		{preflight.CheckCleanup, events}, {preflight.CheckRetention, events}, {preflight.CheckMessageSize, late}, {preflight.CheckReplication, events},
	} {
		if !slices.ContainsFunc(report.Findings, func(f preflight.Finding) bool {
			return f.Check == want.check && strings.Contains(f.Subject, want.subject)
		}) {
			t.Errorf("nothing is said of %s of %s: %+v", want.check, want.subject, report.Findings)
		}
	}
	if slices.ContainsFunc(report.Findings, func(f preflight.Finding) bool {
		return f.Check == preflight.CheckStore || f.Check == preflight.CheckGroupOffsets || f.Check == preflight.CheckSettings
	}) {
		t.Errorf("the servers of the tests are as they should be: %+v", report.Findings)
	}
}

// remake deletes a topic and makes it again, with other settings.
func remake(ctx context.Context, t *testing.T, c *kafkaio.Client, name string, configs map[string]string) {
	t.Helper()
	if err := c.DeleteTopics(ctx, name); err != nil {
		t.Fatal(err)
	}
	for {
		err := c.CreateTopic(ctx, name, 1, 1, configs)
		if err == nil {
			return
		}
		if !errors.Is(err, kafkaio.ErrTopicExists) {
			t.Fatal(err)
		}
	}
}
