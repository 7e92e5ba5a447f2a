// Package cli is the command line of tidemark: flags, help, exit codes and logs. What the commands do is in the packages beside
// it.
package cli

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	"github.com/redis/go-redis/v9"

	"github.com/llm-auto-optimizer/tidemark/core/spec"
)

// Exit codes.
const (
	ExitOK     = 0
	ExitFailed = 1 // the run failed
	ExitUsage  = 2 // flags or spec are wrong: nothing was begun
)

// errUsage is wrapped by what is wrong with the command line.
var errUsage = errors.New("usage")

func usage(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errUsage, fmt.Errorf(format, args...))
}

// Streams are the files of the process.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
}

// commands is the grammar.
type commands struct {
	Run        runCmd        `cmd:"" help:"Run the main job on this machine: records in, windows out."`
	Replay     replayCmd     `cmd:"" help:"Compute the results of a file of records, the same bytes every time."`
	Generate   generateCmd   `cmd:"" help:"Make sample records that a spec can read, into a file or a topic."`
	Validate   validateCmd   `cmd:"" help:"Check a spec, and the topics that it needs."`
	Checkpoint checkpointCmd `cmd:"" help:"Copy the state of an app, so that less of the log is read if it is lost."`
	Restore    restoreCmd    `cmd:"" help:"Put back into the state store what it has lost, from a checkpoint."`
	Explain    explainCmd    `cmd:"" help:"Why a window has not fired, and who holds the watermark back."`
	Console    consoleCmd    `cmd:"" help:"Watch in a browser what an app does that others run."`
	State      stateCmd      `cmd:"" help:"Look into the state store."`
	Verify     verifyCmd     `cmd:"" help:"Compute the results once more, and compare them, the state and the books with what was published."`
	Completion completionCmd `cmd:"" help:"Print a script that completes commands and flags in bash, zsh or fish."`

	LogLevel slog.Level       `default:"warn" env:"TIDEMARK_LOG_LEVEL" help:"Least level of what is logged to stderr: debug, info, warn or error."`
	JSON     bool             `help:"One JSON object a line on stdout in place of text."`
	Version  kong.VersionFlag `help:"Print the version and exit."`
}

const description = `Tidemark: exact event-time windows over Kafka, as serverless functions.

Begin with

  tidemark run                    everything in this process, with sample records; Ctrl-C ends it
  tidemark run --print-config     the spec it uses, to change
  tidemark COMMAND --help         what a command does, with examples

Exit codes: 0 all went well; 1 the run failed; 2 flags or spec are wrong.`

// exit ends the parser where kong wants to end the process: after help and version.
type exit int

// Main runs a command line, without the program's name, and returns the exit code. It ends cleanly when ctx does.
func Main(ctx context.Context, args []string, s Streams) (code int) {
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(exit)
			if !ok {
				panic(r)
			}
			code = int(e)
		}
	}()
	var c commands
	parser, err := kong.New(&c, kong.Name("tidemark"), kong.Description(description), kong.Writers(s.Out, s.Err),
		kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 120, NoExpandSubcommands: true, FlagsLast: true}),
		kong.Exit(func(code int) { panic(exit(code)) }), kong.Vars{"version": version()})
	if err != nil {
		return s.fail(fmt.Errorf("command line: %w", err))
	}
	if len(args) > 0 && args[0] == completeCommand {
		return s.fail(complete(s.Out, parser.Model, args[1:]))
	}
	k, err := parser.Parse(args)
	if err != nil {
		return s.fail(usage("%w; see tidemark %s--help", err, parsed(err)))
	}
	e := &env{Streams: s, json: c.JSON, level: c.LogLevel}
	e.setLogs(s.Err)
	k.BindTo(ctx, (*context.Context)(nil))
	err = k.Run(e)
	if k.Command() != "run" && unread(err) { // a run that ends because of it says so: it would have gone on
		return ExitFailed
	}
	return s.fail(err)
}

// parsed returns the command that a command line named before it went wrong, and a blank; nothing if it named none.
func parsed(err error) string {
	e, ok := errors.AsType[*kong.ParseError](err)
	if !ok || e.Context == nil || e.Context.Selected() == nil {
		return ""
	}
	return strings.TrimPrefix(e.Context.Selected().Path(), e.Context.Model.Name+" ") + " "
}

// env is what a command works with.
type env struct {
	Streams
	json   bool
	level  slog.Level
	logger *slog.Logger
}

// setLogs makes the logger of the command, and that of the Redis client, which is global.
func (e *env) setLogs(w io.Writer) {
	e.logger = slog.New(newLogHandler(w, e.level))
	redis.SetLogger(redisLogger{e.logger})
}

// redisLogger passes on what the Redis client says of its connections. What an operation came to is told by its error.
type redisLogger struct{ to *slog.Logger }

// Printf implements the client's logger.
func (l redisLogger) Printf(ctx context.Context, format string, v ...any) {
	l.to.DebugContext(ctx, "redis client", "message", fmt.Sprintf(format, v...))
}

// fail prints an error and returns the exit code it stands for.
func (s Streams) fail(err error) int {
	if err == nil {
		return ExitOK
	}
	code := ExitFailed
	text := err.Error()
	if errors.Is(err, errUsage) || errors.Is(err, spec.ErrInvalid) || errors.Is(err, spec.ErrNotSupported) {
		code = ExitUsage
		text = strings.TrimPrefix(text, errUsage.Error()+": ")
	}
	_, _ = fmt.Fprintln(s.Err, "tidemark:", text) // where it cannot be said, the code says it
	return code
}

// unread reports whether nothing is wrong but that whoever read stdout has gone, as head does: that needs no words.
func unread(err error) bool {
	switch e := err.(type) { //nolint:errorlint // each error of a tree is looked at by itself
	case *fs.PathError:
		return e.Path == os.Stdout.Name() && errors.Is(e.Err, syscall.EPIPE)
	case interface{ Unwrap() []error }:
		return !slices.ContainsFunc(e.Unwrap(), func(part error) bool { return !unread(part) })
	case interface{ Unwrap() error }:
		return unread(e.Unwrap())
	}
	return false
}

//go:embed default.yaml
var defaultSpec []byte

// defaultName stands for the built-in spec in messages.
const defaultName = "built-in spec"

// specFlag is the flag that names the spec.
type specFlag struct {
	Config string `placeholder:"FILE" env:"TIDEMARK_CONFIG" help:"Spec: what to compute. Default: the one that run --print-config prints."`
}

// load reads the spec.
func (f specFlag) load() (*spec.App, error) {
	if f.Config == "" {
		return spec.Load(defaultSpec, defaultName)
	}
	if strings.HasPrefix(f.Config, "s3://") || strings.HasPrefix(f.Config, "ssm:") {
		return nil, usage("not supported yet: --config %s: give a file", f.Config)
	}
	data, err := os.ReadFile(f.Config)
	if err != nil {
		return nil, usage("--config: %w", err)
	}
	return spec.Load(data, f.Config)
}
