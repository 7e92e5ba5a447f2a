// Command cmd is `make crash`: see package crash. It prints what it does, and ends in lines RESULT NAME VALUE UNIT. The exit code is
// 1 if anything was lost or doubled, if a function did anything else wrong, or if a count was not reached.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/llm-auto-optimizer/tidemark/tests/crash"
	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ok, err := run(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "crash:", err)
	}
	if err != nil || !ok {
		stop()
		os.Exit(1) //nolint:gocritic // what is deferred was done above
	}
}

func run(ctx context.Context) (ok bool, err error) {
	o := crash.Options{Out: os.Stdout}
	if o.Seed, err = seed.Get(rand.Uint64()); err != nil {
		return false, err
	}
	flag.StringVar(&o.Root, "root", ".", "top of the repository")
	flag.StringVar(&o.Logs, "logs", "", "folder for complete logs of functions and servers")
	flag.Uint64Var(&o.Seed, "seed", o.Seed, "what the choices are drawn from")
	flag.IntVar(&o.Stages, "stages", 20, "apps, each from its first record to its last result")
	flag.IntVar(&o.Kills, "kills", 200, "least SIGKILLs of functions")
	flag.IntVar(&o.Failovers, "failovers", 20, "Redis failovers that lose acknowledged writes")
	flag.IntVar(&o.Flushes, "flushes", 5, "FLUSHALLs")
	flag.IntVar(&o.Bounces, "bounces", 20, "times that the broker is killed and started again")
	flag.IntVar(&o.Vanished, "vanished", 10, "times that single slots disappear")
	flag.IntVar(&o.Rebuild, "rebuild", 1_000_000, "records to be rebuilt after a FLUSHALL, 0 for none")
	flag.DurationVar(&o.Deadline, "deadline", 2300*time.Millisecond, "of the invocations that rebuild them")
	flag.Parse()
	if o.Root, err = filepath.Abs(o.Root); err != nil {
		return false, err
	}
	if o.Logs != "" {
		if err := os.MkdirAll(o.Logs, 0o750); err != nil {
			return false, err
		}
	}
	report, err := crash.Run(ctx, o)
	for _, p := range report.Problems {
		fmt.Println("PROBLEM", p)
	}
	fmt.Print(report.Results())
	return report.Failed() == "", err
}
