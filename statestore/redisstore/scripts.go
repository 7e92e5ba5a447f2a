package redisstore

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// The scripts have no "#!lua" line on purpose. Without it a server that is out of memory still runs those that only read or
// only remove, and Redis 6.2 runs them as well.
var (
	//go:embed lua/head.lua
	luaHead string
	//go:embed lua/commit.lua
	luaCommit string
	//go:embed lua/restore.lua
	luaRestore string
	//go:embed lua/import.lua
	luaImport string
	//go:embed lua/raise.lua
	luaRaise string
	//go:embed lua/status.lua
	luaStatus string
	//go:embed lua/index.lua
	luaIndex string
	//go:embed lua/read.lua
	luaRead string
	//go:embed lua/sweep.lua
	luaSweep string
	//go:embed lua/stage.lua
	luaStage string
	//go:embed lua/drop.lua
	luaDrop string
)

// script is the text of a script and its digest.
type script struct{ text, sha string }

// scripts holds every script, each with the common beginning.
type scripts struct {
	commit, restore, imports, raise, status, index, read, sweep, stage, drop script
}

func newScripts() scripts {
	with := func(body string) script {
		text := luaHead + body
		return script{text: text, sha: redis.NewScript(text).Hash()}
	}
	return scripts{
		commit: with(luaCommit), restore: with(luaRestore), imports: with(luaImport), raise: with(luaRaise), status: with(luaStatus),
		index: with(luaIndex), read: with(luaRead), sweep: with(luaSweep), stage: with(luaStage), drop: with(luaDrop),
	}
}

// The first element of every script's answer.
const (
	codeOK       = "ok"
	codeConflict = "conflict"
	codeRefused  = "refused"
	codeGone     = "gone" // a delta is not stored any more; its list and field name follow the head
	codeNoSlot   = "noslot"
	codeVersion  = "version" // the head is of a newer version
	codeDamaged  = "damaged" // stored values have not the shape they are written with
	codeStage    = "stage"   // what was staged is not all there
	codePresent  = "present"
	codeCreated  = "created"
	codeAdopted  = "adopted"
	codeWiped    = "wiped"
	codeExists   = "exists"
)

// answer is what a script answered: a code, the head of the slot if there is one, and what else it has to tell.
type answer struct {
	code string
	meta statestore.Meta
	rest []any
}

// call is one script call.
type call struct {
	script script
	keys   []string
	args   []any
	// once forbids the client's own retries where the first try may have reached the server.
	once bool
}

// onceCmd is a command that the client does not repeat on its own, except where the server has said that it did not run it.
type onceCmd struct{ *redis.Cmd }

// NoRetry implements redis.Cmder.
func (onceCmd) NoRetry() bool { return true }

// run calls a script by its digest, or with its text where the server does not know it (any more). Errors are those of the
// connection or the server, whose outcome is unknown, or wrap ErrFormat or ErrVersion.
func (s *Store) run(ctx context.Context, c call) (answer, error) {
	reply, err := s.eval(ctx, c, "evalsha", c.script.sha)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		reply, err = s.eval(ctx, c, "eval", c.script.text)
	}
	if err != nil {
		return answer{}, err
	}
	return parseAnswer(reply)
}

// command is the call as the client sends it: evalsha and the digest, or eval and the text.
func (c call) command(ctx context.Context, name, what string) *redis.Cmd {
	args := make([]any, 0, 3+len(c.keys)+len(c.args))
	args = append(args, name, what, len(c.keys))
	for _, k := range c.keys {
		args = append(args, k)
	}
	cmd := redis.NewCmd(ctx, append(args, c.args...)...)
	cmd.SetFirstKeyPos(3) // the cluster client routes by it
	return cmd
}

func (s *Store) eval(ctx context.Context, c call, name, what string) ([]any, error) {
	cmd := c.command(ctx, name, what)
	var err error
	if c.once {
		err = s.do(ctx, c.keys[0], onceCmd{cmd})
	} else {
		err = s.do(ctx, c.keys[0], cmd)
	}
	if err != nil {
		return nil, err
	}
	return cmd.Slice()
}

func parseAnswer(reply []any) (answer, error) {
	var a answer
	if len(reply) > 0 {
		a.code, _ = reply[0].(string)
	}
	switch a.code {
	case codeVersion:
		return a, fmt.Errorf("the head is of a later version than %s: %w", statestore.MetaVersion, statestore.ErrVersion)
	case codeDamaged:
		return a, fmt.Errorf("stored values have not the shape they are written with: %w", statestore.ErrFormat)
	case codeNoSlot:
		return a, statestore.ErrNoSlot
	case codeStage:
		return a, nil
	case codeOK, codeConflict, codeRefused, codeGone, codePresent, codeCreated, codeAdopted, codeWiped, codeExists:
		if len(reply) < 2 {
			return a, nil // of a script that answers no head
		}
		head, _ := reply[1].(string)
		m, err := statestore.DecodeMeta([]byte(head))
		a.meta, a.rest = m, reply[2:]
		return a, err
	}
	return a, fmt.Errorf("a script answered %q", a.code)
}
