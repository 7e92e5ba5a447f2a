package preflight

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/redisstore"
)

// store looks at the servers of the state store, if it has any.
func (c *check) store(ctx context.Context) {
	servers, ok := c.Store.(Servers)
	if !ok {
		return
	}
	facts, err := servers.Inspect(ctx)
	for _, f := range facts {
		c.server(f)
	}
	switch {
	case err == nil:
	case errors.Is(err, statestore.ErrDenied):
		c.add(Error, CheckStore, "", "the user may not run scripts: "+err.Error(), "allow EVALSHA, EVAL, commands on hashes and UNLINK, on keys that begin with {tm:")
	case ctx.Err() != nil:
		c.add(Warning, CheckStore, "", "it was asked, but the time was over before it answered: "+err.Error(), "see whether it runs, and the network")
	default:
		c.add(Error, CheckStore, "", "it does not do what is asked of it: "+err.Error(), "see what it says")
	}
}

func (c *check) server(f redisstore.Facts) {
	if f.Err != nil {
		c.add(Warning, CheckStore, f.Node, "it does not say how it is set up: "+f.Err.Error(), "allow INFO, or see to it that maxmemory-policy is noeviction and that it is no replica")
		return
	}
	if f.Old() {
		c.add(Error, CheckStore, f.Node, fmt.Sprintf("version %s is older than %s, which the scripts need", f.Version, redisstore.MinVersion), "use a newer server")
	}
	if f.Replica {
		c.add(Error, CheckStore, f.Node, "it is a replica, which takes no writes", "name the primary (or the primary endpoint of the service)")
	}
	switch {
	case f.Policy == "noeviction":
	case f.Policy == "":
		c.add(Note, CheckStore, f.Node, "it does not say its maxmemory-policy", "see to it that it is noeviction")
	case strings.HasPrefix(f.Policy, "volatile-"):
		c.add(Warning, CheckStore, f.Node, fmt.Sprintf("maxmemory-policy is %s: it spares our keys, which do not expire, but it takes those of others first and then refuses writes", f.Policy),
			"set maxmemory-policy to noeviction, and have a store of its own for Tidemark")
	default:
		c.add(Error, CheckStore, f.Node, fmt.Sprintf("maxmemory-policy is %s: a server that evicts removes parts of slots from the middle, which nothing can find out", f.Policy),
			"set maxmemory-policy to noeviction")
	}
}
