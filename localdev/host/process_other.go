//go:build !unix

package host

import (
	"context"
	"net"
	"syscall"
)

// processes is what a system without signals has.
type processes struct{}

func newProcesses(*Function) launcher { return processes{} }

func (processes) listen(context.Context) (net.Listener, error) { return nil, ErrNotSupported }

func (processes) launch(context.Context, string, func(string)) (box, error) {
	return nil, ErrNotSupported
}

func (processes) close() {}

func group() *syscall.SysProcAttr { return nil }
