package redisstore

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFactsAreReadFromINFO(t *testing.T) {
	var got Facts
	got.read("# Server\r\nredis_version:7.2.4\r\nvalkey_version:8.0.1\r\n\r\n# Memory\r\nused_memory:1024\r\nmaxmemory:2048\r\nmaxmemory_human:2K\r\n" +
		"maxmemory_policy:allkeys-lru\r\n# Replication\r\nrole:slave\r\n")
	if diff := cmp.Diff(Facts{Version: "7.2.4", Replica: true, Policy: "allkeys-lru", MaxMemory: 2048, Memory: 1024}, got); diff != "" {
		t.Error(diff)
	}
}

func TestOldServers(t *testing.T) {
	for version, want := range map[string]bool{"5.0.14": true, "6.0.20": true, "6.2.0": false, "7.0.15": false, "10.1": false, "": false, "unstable": false} {
		if got := (Facts{Version: version}).Old(); got != want {
			t.Errorf("%q: old %v", version, got)
		}
	}
}
