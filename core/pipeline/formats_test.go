package pipeline

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/delta"
	"github.com/llm-auto-optimizer/tidemark/core/event"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func commitment() *Commitment {
	return &Commitment{
		Plan: 17, Watermark: 1_700_000_000_000, At: 1_700_000_031_000, Token: [16]byte{1, 2, 3}, TopicID: [16]byte{9}, ReplayFrom: 400, MaxTime: 1_700_000_002_000,
		Totals:  Totals{Counts: Counts{In: 1000, Late: 3, Dead: 2, Skipped: 1, LateWindows: 4}, Final: 900},
		Refused: []Refusal{{Window: 0, Offset: 410}, {Window: 2, Offset: 410}, {Window: 0, Offset: 999}},
	}
}

// Stored bytes of version 1. A change of these goldens is a new version, or it loses what users have stored.
func TestStoredBytesStayAsTheyAre(t *testing.T) {
	groups, sessions := compile(t, tumbling, ""), compile(t, `[{name: s, type: session, gap: 5ms, allowed_lateness: 0s}]`, "")
	records := []event.Record{rec(0, 1, "a", 1.5), rec(1, 2, "b", -2), rec(2, 3, "a", 1e300)}
	for name, got := range map[string][]byte{
		"commitment.v1": AppendCommitment(nil, commitment()),
		"counts.v1":     AppendCounts(nil, Counts{1, 2, 3, 4, 5, 6, 700}),
		"outbox.v1": AppendOutbox(nil, []OutboxEntry{
			{Offset: 5, Reason: event.ReasonLate, Time: -3, Fence: 88}, {Offset: 900, Reason: event.ReasonDecode, Time: event.MinTime, Fence: event.MinTime, Detail: "why"},
		}),
		"refused.v1":  AppendRefused(nil, commitment().Refused),
		"groups.v1":   fold(t, groups, genesis, records...).Deltas[0].Payload,
		"sessions.v1": fold(t, sessions, genesis, records...).Deltas[0].Payload,
	} {
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, got, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

func TestCommitmentComesBackAsItWas(t *testing.T) {
	want := commitment()
	got, err := DecodeCommitment(string(AppendCommitment(nil, want)))
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	want.Refused, want.RefusedAt, want.Ended = nil, &LedgerSpan{Partition: 3, Offsets: []int64{7, 8}}, true
	want.Watermark, want.MaxTime = event.MinTime, event.MinTime
	got, err = DecodeCommitment(string(AppendCommitment(nil, want)))
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	s := AppendCommitment(nil, want)
	for i := range s {
		broken := append([]byte(nil), s...)
		broken[i] ^= 0x15
		if c, err := DecodeCommitment(string(broken)); err == nil && cmp.Diff(want, c) != "" {
			t.Fatalf("flipped byte %d was not noticed", i)
		}
	}
}

func FuzzDecodeCommitment(f *testing.F) {
	f.Add(string(AppendCommitment(nil, commitment())))
	f.Add("t1:")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := DecodeCommitment(s)
		if err != nil {
			if !errors.Is(err, ErrPayload) {
				t.Fatalf("%v", err)
			}
			return
		}
		again, err := DecodeCommitment(string(AppendCommitment(nil, c)))
		if err != nil || cmp.Diff(c, again) != "" {
			t.Fatalf("%v: %s", err, cmp.Diff(c, again))
		}
	})
}

func FuzzDecodePayloads(f *testing.F) {
	f.Add(AppendOutbox(nil, []OutboxEntry{{Offset: 5, Reason: event.ReasonLate}}))
	f.Add(AppendRefused(nil, commitment().Refused))
	f.Add(AppendCounts(nil, Counts{In: 1}))
	f.Add([]byte{1, 255, 255, 255, 255, 15})
	groups := compile(f, tumbling, "")
	f.Add(fold(f, groups, genesis, rec(0, 1, "a", 1)).Deltas[0].Payload)
	sessions := compile(f, `[{name: s, type: session, gap: 5ms, allowed_lateness: 0s}]`, "")
	f.Add(fold(f, sessions, genesis, rec(0, 1, "a", 1)).Deltas[0].Payload)
	f.Fuzz(func(t *testing.T, b []byte) {
		check := func(err error) {
			if err != nil && !errors.Is(err, ErrPayload) {
				t.Fatalf("%v", err)
			}
		}
		_, err := DecodeOutbox(nil, b)
		check(err)
		_, err = DecodeRefused(nil, b)
		check(err)
		_, err = DecodeCounts(b)
		check(err)
		for _, p := range []*Pipeline{groups, sessions} {
			it := p.groups(delta.SliceID{}, b)
			for it.next() {
				continue
			}
			check(it.err)
		}
	})
}
