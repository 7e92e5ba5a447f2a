// Package redisstore keeps slots in Redis or Valkey, on one server or in a cluster. Every change is one Lua script in one hash
// slot. The server must not evict (maxmemory-policy noeviction) and needs nothing beyond EVALSHA and hashes, so serverless
// offers will do. statestore/DESIGN.md draws the keys.
package redisstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// Defaults of the connection; parameters of a URL (dial_timeout, read_timeout, ...) win over them.
const (
	dialTimeout = 2 * time.Second
	readTimeout = 3 * time.Second
	// A connection that was idle for longer is not used again. A function's environment is frozen between calls, and what it
	// finds when it thaws has often been cut by a load balancer without a word; the price is a new connection after a pause.
	connMaxIdle = time.Minute
	// Retries of what may have reached the server are harmless but for a raise, see call.once.
	maxRetries = 2
	// Servers cut a connection that was let in by IAM after 12 hours.
	connMaxLifetime = 11 * time.Hour
)

// Limits of one call. Serverless offers take 3,999 arguments.
const (
	maxArgs      = 3900
	maxBytes     = 4 << 20 // payload bytes sent, if it is more than one
	maxReadBytes = 2 << 20 // payload bytes answered, and at most one payload more
	maxRefs      = 1000    // deltas asked for
	maxLists     = 500     // lists asked for
)

// maxTogether bounds the calls that are sent together.
const maxTogether = 64

// Options says where the store is.
type Options struct {
	// URLs are redis:// or rediss:// (TLS) URLs, or host:port. More than one are nodes of one cluster, and say the same of user,
	// password and parameters. With one, the server is asked whether it belongs to a cluster.
	URLs []string
	// TLS replaces the TLS settings that a rediss:// URL brings: the system's roots, and for each node the name that it is dialled
	// by. Without rediss:// it is not used. Not changed, not kept.
	TLS *tls.Config
	// Credentials, if not nil, is asked for user and password for every new connection, in place of those in the URLs. rejected says
	// that a server did not accept the last ones: they may have been changed. It is safe for concurrent use.
	Credentials func(ctx context.Context, rejected bool) (user, password string, err error)
	// Codec is how payloads are written. Those written otherwise are read all the same.
	Codec statestore.Codec
}

// Store implements statestore.Store.
type Store struct {
	client      redis.UniversalClient
	codec       statestore.Codec
	scripts     scripts
	limits      limits
	callTimeout time.Duration // of one command, with its repetitions
	login       *login        // nil: user and password are those of the URLs
	gates       gates
}

type limits struct{ args, bytes, readBytes, refs, lists int }

var _ statestore.Store = (*Store)(nil)

// Open connects to the store, which takes one round trip. Errors never show a password.
func Open(ctx context.Context, o Options) (*Store, error) {
	var l *login
	if o.Credentials != nil {
		l = &login{ask: o.Credentials}
	}
	u, err := o.universal(l)
	if err != nil {
		return nil, fmt.Errorf("open redis: %w", err)
	}
	redis.SetLogger(silence{})
	callTimeout := max(u.DialTimeout, u.ReadTimeout, u.WriteTimeout) + time.Second
	begun := time.Now()
	cluster := len(u.Addrs) > 1
	if !cluster {
		probe := redis.NewClient(u.Simple())
		limited, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		if cluster, err = inCluster(limited, probe); err != nil {
			_ = probe.Close() // the first error says more
			return nil, fmt.Errorf("open: %w", trouble(ctx, u.Addrs[0], time.Since(begun), err))
		}
		if !cluster {
			return newStore(probe, o.Codec, callTimeout, l), nil
		}
		if err := probe.Close(); err != nil {
			return nil, fmt.Errorf("open redis at %s: %w", u.Addrs[0], err)
		}
	}
	if u.DB != 0 {
		return nil, fmt.Errorf("open redis at %s: a cluster has no database %d", strings.Join(u.Addrs, ","), u.DB)
	}
	co := u.Cluster()
	co.DisableRoutingPolicies = true // scripts are routed by their first key; the table of commands is not needed
	co.MaxRetries = -1               // MaxRedirects counts repetitions too
	client := redis.NewClusterClient(co)
	// Any node that answers will do: it says which ones there are. One that is down must not keep the others from being used.
	if _, err := client.MasterForKey(ctx, tagStart); err != nil {
		_ = client.Close()
		return nil, fmt.Errorf("open cluster: %w", trouble(ctx, strings.Join(u.Addrs, ","), time.Since(begun), err))
	}
	return newStore(client, o.Codec, callTimeout, l), nil
}

func newStore(client redis.UniversalClient, codec statestore.Codec, callTimeout time.Duration, l *login) *Store {
	return &Store{
		client: client, codec: codec, scripts: newScripts(), callTimeout: callTimeout, login: l,
		limits: limits{args: maxArgs, bytes: maxBytes, readBytes: maxReadBytes, refs: maxRefs, lists: maxLists},
	}
}

// Close implements statestore.Store.
func (s *Store) Close() error {
	if err := s.client.Close(); err != nil {
		return fmt.Errorf("close redis: %w", err)
	}
	return nil
}

// universal turns the URLs into the client's options.
func (o Options) universal(l *login) (*redis.UniversalOptions, error) {
	if len(o.URLs) == 0 {
		return nil, fmt.Errorf("no URL: %w", statestore.ErrInvalid)
	}
	var first *redis.Options
	addrs := make([]string, 0, len(o.URLs))
	for i, raw := range o.URLs {
		parsed, err := parseURL(raw)
		if err != nil {
			return nil, fmt.Errorf("URL %d of %d %w: %w", i+1, len(o.URLs), err, statestore.ErrInvalid)
		}
		addrs = append(addrs, parsed.Addr)
		if first == nil {
			first = parsed
			continue
		}
		if parsed.Username != first.Username || parsed.Password != first.Password || parsed.DB != first.DB ||
			(parsed.TLSConfig == nil) != (first.TLSConfig == nil) {
			return nil, fmt.Errorf("URL %d of %d differs from the first in scheme, user, password or database: %w", i+1, len(o.URLs), statestore.ErrInvalid)
		}
	}
	u := &redis.UniversalOptions{
		Addrs: addrs, DB: first.DB, Username: first.Username, Password: first.Password,
		Protocol: 2, ClientName: first.ClientName, // nothing here needs push messages
		MaxRetries: orDefault(first.MaxRetries, maxRetries), MinRetryBackoff: first.MinRetryBackoff, MaxRetryBackoff: first.MaxRetryBackoff,
		DialTimeout: orDefault(first.DialTimeout, dialTimeout), DialerRetries: 1,
		ReadTimeout: orDefault(first.ReadTimeout, readTimeout), WriteTimeout: orDefault(first.WriteTimeout, readTimeout),
		ContextTimeoutEnabled: true,
		PoolFIFO:              first.PoolFIFO, PoolSize: first.PoolSize, PoolTimeout: first.PoolTimeout, MinIdleConns: first.MinIdleConns,
		MaxIdleConns: first.MaxIdleConns, MaxActiveConns: first.MaxActiveConns,
		ConnMaxIdleTime: orDefault(first.ConnMaxIdleTime, connMaxIdle), ConnMaxLifetime: first.ConnMaxLifetime,
		TLSConfig:                first.TLSConfig,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		MaxRedirects:             3,
	}
	if l != nil {
		u.Username, u.Password, u.CredentialsProviderContext = "", "", l.get
		u.ConnMaxLifetime = orDefault(u.ConnMaxLifetime, connMaxLifetime)
	}
	switch {
	case u.TLSConfig == nil:
	case o.TLS != nil:
		u.TLSConfig = o.TLS.Clone()
	default:
		// Each node is checked by the name it is dialled by, not all of them by that of the first URL.
		u.TLSConfig.ServerName = ""
	}
	return u, nil
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// parseURL reads one URL. Errors say what is wrong and nothing of the text: any part of it may be part of a password whose
// special characters were not escaped.
func parseURL(raw string) (*redis.Options, error) {
	raw = strings.TrimSpace(raw)
	if !strings.Contains(raw, "://") {
		raw = "redis://" + raw
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("cannot be read (special characters in user and password have to be percent-encoded)")
	}
	if u.Scheme != "redis" && u.Scheme != "rediss" {
		return nil, errors.New("has another scheme than redis or rediss")
	}
	if u.Host == "" {
		return nil, errors.New("has no host")
	}
	o, err := redis.ParseURL(raw)
	if err != nil {
		return nil, errors.New("has a database number or a parameter that is not understood")
	}
	return o, nil
}

// inCluster asks a server whether it is a node of a cluster. HELLO, not INFO: every user may call it.
func inCluster(ctx context.Context, c *redis.Client) (bool, error) {
	reply, err := c.Do(ctx, "HELLO").Slice()
	if err != nil {
		return false, err
	}
	for i := 0; i+1 < len(reply); i += 2 {
		if reply[i] == "mode" {
			return reply[i+1] == "cluster", nil
		}
	}
	return false, errors.New("the server does not say its mode")
}
