//go:build !darwin

package boltstore

import (
	"os"
	"strings"
)

// bootID names the time since the machine was last started; empty if it cannot be known, as anywhere but on Linux and macOS:
// there a process that was killed costs the state.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}
