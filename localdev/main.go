// Command tidemark runs Tidemark on one machine: see `tidemark --help`.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/llm-auto-optimizer/tidemark/localdev/internal/cli"
)

// together is how close two signals are one: `timeout` and some shells send to the process and to its group.
const together = 500 * time.Millisecond

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	signal.Ignore(syscall.SIGPIPE) // a reader that has gone is an error like others: what the run made is taken down
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		<-signals
		cancel()
		for first := time.Now(); ; {
			<-signals
			if time.Since(first) > together {
				os.Exit(130) // asked twice: at once
			}
		}
	}()
	os.Exit(cli.Main(ctx, os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv}))
}
