package redisstore

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

func testSlot() statestore.Slot {
	return statestore.Slot{
		Pipeline: "0123456789abcdef", Shard: 2, Partition: 17,
		TopicID: [16]byte{0xa0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff},
	}
}

func TestKeysOfASlotShareItsTag(t *testing.T) {
	const tag = "{tm:0123456789abcdef:2:a00102030405060708090a0b0c0d0eff:17}"
	k := keysOf(testSlot())
	got := append(k.base(0), k.list(statestore.SliceID{Window: 1, Start: -1}))
	want := []string{tag + ":m", tag + ":s", tag + ":r", tag + ":d:00017fffffffffffffff"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	if slot, ok := parseHead(k.head()); !ok || slot != testSlot() {
		t.Errorf("parsed: %+v, %v", slot, ok)
	}
}

func TestOtherKeysAreNoHeads(t *testing.T) {
	for _, key := range []string{
		"", "{tm:}:m", "tm:0123456789abcdef:2:a00102030405060708090a0b0c0d0eff:17:m",
		"{tm:0123456789abcdef:2:a00102030405060708090a0b0c0d0eff:17}:s",
		"{tm:0123456789abcdef:2:a00102030405060708090a0b0c0d0eff:+17}:m",
		"{tm:0123456789abcdef:02:a00102030405060708090a0b0c0d0eff:17}:m",
		"{tm:0123456789abcdef:2:a00102030405060708090a0b0c0d0eff:17:1}:m",
		"{tm:0123456789ABCDEF:2:a00102030405060708090a0b0c0d0eff:17}:m",
		"{tm:0123456789abcdef:2:a00102030405060708090a0b0c0d0eff:4294967296}:m",
	} {
		if slot, ok := parseHead(key); ok {
			t.Errorf("%q is the head of %+v", key, slot)
		}
	}
}

func FuzzParseHead(f *testing.F) {
	f.Add(keysOf(testSlot()).head())
	f.Add("{tm:0123456789abcdef:2::17}:m")
	f.Fuzz(func(t *testing.T, key string) {
		if slot, ok := parseHead(key); ok && keysOf(slot).head() != key {
			t.Errorf("%q is read as %+v, whose head is %q", key, slot, keysOf(slot).head())
		}
	})
}

func FuzzParseAnswers(f *testing.F) {
	id := statestore.SliceID{Window: 1, Start: 60_000}
	ref := statestore.DeltaRef{Slice: id, From: 3, To: 9, Bucket: 1, Owned: 5}
	f.Add(string(statestore.AppendField(nil, ref)), string(statestore.AppendOffset(statestore.AppendSlice(nil, id), 7)))
	f.Add("", "")
	f.Fuzz(func(t *testing.T, names, info string) {
		if got, err := parseInfo(string(statestore.AppendOffset(statestore.AppendSlice(nil, id), 7)), 4, names); err != nil {
			if !errors.Is(err, statestore.ErrFormat) {
				t.Errorf("sizes: %v", err)
			}
		} else if got.Bytes < 0 {
			t.Errorf("sizes %q are read as %d", names, got.Bytes)
		}
		if refs, err := appendRefs(nil, id, names); err != nil {
			if !errors.Is(err, statestore.ErrFormat) {
				t.Errorf("field names: %v", err)
			}
		} else if len(refs)*statestore.FieldSize != len(names) {
			t.Errorf("%d refs in %d bytes", len(refs), len(names))
		}
		if got, err := parseInfo(info, 4, "10,20"); err != nil {
			if !errors.Is(err, statestore.ErrFormat) {
				t.Errorf("slice: %v", err)
			}
		} else if back := statestore.AppendOffset(statestore.AppendSlice(nil, got.ID), got.MaxFrom); string(back) != info || got.Bytes != 60 {
			t.Errorf("%q is read as %+v", info, got)
		}
		if err := goneError([]any{names}); !errors.Is(err, statestore.ErrRefused) {
			t.Errorf("gone: %v", err)
		}
		for _, code := range []string{codeOK, names} {
			if a, err := parseAnswer([]any{code, info}); err == nil && len(info) != statestore.MetaSize && a.code != codeStage {
				t.Errorf("answer %q with head %q is read as %+v", code, info, a)
			}
		}
	})
}

func TestGroupsAreSortedAndTheLastOfOneIdentityStays(t *testing.T) {
	d := func(w uint16, start event.Time, from, to int64, bucket uint8, payload string) statestore.Delta {
		return statestore.Delta{
			Ref:     statestore.DeltaRef{Slice: statestore.SliceID{Window: w, Start: start}, From: from, To: to, Bucket: bucket},
			Payload: []byte(payload),
		}
	}
	deltas := []statestore.Delta{
		d(1, 0, 5, 9, 0, "e"), d(0, 10, 5, 9, 0, "d"), d(0, -10, 5, 9, 1, "c"), d(0, -10, 5, 8, 0, "a"), d(0, -10, 5, 9, 0, "b"),
	}
	var got []string
	for _, g := range groupDeltas(statestore.CodecNone, deltas) {
		for i, v := range g.values {
			ref, err := statestore.ParseField(g.slice, g.fields[i*statestore.FieldSize:][:statestore.FieldSize])
			if err != nil {
				t.Fatal(err)
			}
			payload, err := statestore.DecodePayload(v)
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(deltas, func(d statestore.Delta) bool { return d.Ref == ref })
			if i < 0 || string(deltas[i].Payload) != string(payload) {
				t.Errorf("%+v holds %q", ref, payload)
			}
			got = append(got, string(payload))
		}
	}
	if diff := cmp.Diff([]string{"b", "c", "d", "e"}, got); diff != "" {
		t.Errorf("payloads (-want +got):\n%s", diff)
	}
}

func TestURLs(t *testing.T) {
	u, err := Options{URLs: []string{"rediss://me:p%40ss@a.example:7000?read_timeout=9s", " rediss://me:p%40ss@b.example "}}.universal(nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a.example:7000", "b.example:6379"}, u.Addrs); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
	if u.Username != "me" || u.Password != "p@ss" || u.TLSConfig == nil || u.ReadTimeout != 9*time.Second || u.DialTimeout != dialTimeout {
		t.Errorf("options: user %q, TLS %v, read timeout %v, dial timeout %v", u.Username, u.TLSConfig != nil, u.ReadTimeout, u.DialTimeout)
	}
	if u.TLSConfig.ServerName != "" {
		t.Errorf("every node would have to be %q", u.TLSConfig.ServerName)
	}
	if u, err = (Options{URLs: []string{"127.0.0.1:7001"}}).universal(nil); err != nil || u.Addrs[0] != "127.0.0.1:7001" || u.TLSConfig != nil {
		t.Errorf("host:port: %v, %v", u.Addrs, err)
	}
}

func TestBadURLsAreRefusedWithoutShowingThem(t *testing.T) {
	for _, v := range []struct {
		name string
		urls []string
		want string
	}{
		{"none", nil, "no URL"},
		{"unescaped slash in the password", []string{"redis://me:hun/ter2@a:1"}, "percent-encoded"},
		{"unescaped slash in the user", []string{"redis://hun/ter2:x@a:1"}, "not understood"},
		{"bad escape", []string{"redis://me:hun%zzter2@a:1"}, "percent-encoded"},
		{"other scheme", []string{"http://me:hunter2@a:1"}, "scheme"},
		{"password as a parameter", []string{"redis://a:1?password=hunter2"}, "not understood"},
		{"no host", []string{"redis://"}, "no host"},
		{"other password", []string{"redis://me:hunter1@a:1", "redis://me:hunter2@a:2"}, "URL 2 of 2 differs"},
		{"one with TLS", []string{"redis://a:1", "rediss://a:2"}, "URL 2 of 2 differs"},
	} {
		t.Run(v.name, func(t *testing.T) {
			_, err := Open(t.Context(), Options{URLs: v.urls})
			if !errors.Is(err, statestore.ErrInvalid) || !strings.Contains(err.Error(), v.want) {
				t.Fatalf("error %v, want one with %q", err, v.want)
			}
			if strings.Contains(err.Error(), "hun") || strings.Contains(err.Error(), "ter2") {
				t.Errorf("the error shows the password: %v", err)
			}
		})
	}
}
