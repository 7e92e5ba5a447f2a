package pipeline

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"flag"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
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

// Stored bytes. A change of these goldens is a new version, or it loses what users have stored.
func TestStoredBytesStayAsTheyAre(t *testing.T) {
	groups, sessions := compile(t, tumbling, ""), compile(t, `[{name: s, type: session, gap: 5ms, allowed_lateness: 0s}]`, "")
	scalars := compileFunctions(t, "count, first, last, distinct")
	records := []event.Record{rec(0, 1, "a", 1.5), rec(1, 2, "b", -2), rec(2, 3, "a", 1e300)}
	for name, got := range map[string][]byte{
		"commitment.v2": AppendCommitment(nil, takenOver()),
		"commitment.v3": AppendCommitment(nil, withPanes()),
		"counts.v1":     AppendCounts(nil, Counts{1, 2, 3, 4, 5, 6, 700}),
		"outbox.v1": AppendOutbox(nil, []OutboxEntry{
			{Offset: 5, Reason: event.ReasonLate, Time: -3, Fence: 88}, {Offset: 900, Reason: event.ReasonDecode, Time: event.MinTime, Fence: event.MinTime, Detail: "why"},
		}),
		"refused.v1":      AppendRefused(nil, commitment().Refused),
		"groups.v1":       fold(t, groups, genesis, records...).Deltas[0].Payload,
		"groups-rows2.v1": fold(t, scalars, genesis, value(0, 1, `"x"`), value(1, 2, `12.50`), value(2, 3, `true`)).Deltas[0].Payload,
		"sessions.v1":     fold(t, sessions, genesis, records...).Deltas[0].Payload,
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

func takenOver() *Commitment {
	c := commitment()
	c.TakenOver = true
	return c
}

func withPanes() *Commitment {
	c := commitment()
	c.EarlySince, c.Panes = 990, &PanesSpan{Partition: 2, From: 300, To: 5000, Plan: 17}
	return c
}

// Commitments of version 1 lack a flag; nothing writes them any more.
func TestCommitmentsOfVersion1AreRead(t *testing.T) {
	stored, err := os.ReadFile(filepath.Join("testdata", "commitment.v1"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeCommitment(string(stored))
	if diff := cmp.Diff(commitment(), got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestCommitmentsOfNewerProgramsAreRefused(t *testing.T) {
	// From the end: the checksum, the refused offsets, the flags.
	at := len(AppendRefused(nil, commitment().Refused)) + 4 + 1
	for name, c := range map[string]struct {
		change func(b []byte)
		says   string
	}{
		"a newer version":             {func(b []byte) { b[0] = metadataVersion + 1 }, "version 4 is newer than this program, which reads up to 3"},
		"a flag that is not known":    {func(b []byte) { b[len(b)-at] |= 1 << 6 }, "version 2 has no flag 0x40"},
		"a flag that version 2 lacks": {func(b []byte) { b[len(b)-at] |= flagPanes }, "version 2 has no flag 0x8"},
		"a flag that version 1 lacks": {func(b []byte) { b[0] = 1 }, "version 1 has no flag 0x4"},
	} {
		b, err := base64.RawURLEncoding.DecodeString(string(AppendCommitment(nil, takenOver()))[len(metadataPrefix):])
		if err != nil || b[len(b)-at] != flagTakenOver {
			t.Fatalf("flags are not at %d from the end: %v", at, err)
		}
		c.change(b)
		body := b[:len(b)-4]
		b = binary.BigEndian.AppendUint32(body, crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
		_, err = DecodeCommitment(metadataPrefix + base64.RawURLEncoding.EncodeToString(b))
		if !errors.Is(err, ErrPayload) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want one that says %q", name, err, c.says)
		}
	}
}

func TestCommitmentComesBackAsItWas(t *testing.T) {
	want := takenOver()
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
	for _, want := range []*Commitment{withPanes(), {EarlySince: 5, Watermark: event.MinTime}, {Held: 60_000, Watermark: 7}} {
		got, err = DecodeCommitment(string(AppendCommitment(nil, want)))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
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
	f.Add(string(AppendCommitment(nil, takenOver())))
	f.Add(string(AppendCommitment(nil, withPanes())))
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
	scalars := compileFunctions(f, "count, first, last, distinct")
	f.Add(fold(f, scalars, genesis, value(0, 1, `"x"`), value(1, 2, `12.50`)).Deltas[0].Payload)
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
		for _, p := range []*Pipeline{groups, sessions, scalars} {
			it := p.groups(delta.SliceID{}, b)
			for it.next() {
				continue
			}
			check(it.err)
		}
	})
}
