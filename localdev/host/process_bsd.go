//go:build unix && !linux

package host

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// attributes are those of group. A process whose host was killed ends when it next asks for an invocation, unless it is frozen.
func attributes() *syscall.SysProcAttr { return group() }

// memoryOf is the resident memory of a process, in bytes; the most it ever took is not known here.
func memoryOf(pid int) (now, most int64) {
	out, err := exec.Command("ps", "-o", "rss=", "-p", strconv.Itoa(pid)).Output() //nolint:noctx,gosec // a moment, on a number
	if err != nil {
		return 0, 0 // it has gone
	}
	now = number(strings.TrimSpace(string(out))) << 10
	return now, now
}
