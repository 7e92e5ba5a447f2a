package host

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

// attributes are those of group, and have the process killed if the host is.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// memoryOf is the resident memory of a process, in bytes.
func memoryOf(pid int) (now, most int64) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, 0 // it has gone
	}
	for line := range strings.SplitSeq(string(data), "\n") {
		name, value, _ := strings.Cut(line, ":")
		if name != "VmRSS" && name != "VmHWM" {
			continue
		}
		kib := number(strings.TrimSpace(strings.TrimSuffix(value, "kB")))
		if name == "VmRSS" {
			now = kib << 10
		} else {
			most = kib << 10
		}
	}
	return now, most
}
