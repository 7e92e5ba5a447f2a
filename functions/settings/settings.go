// Package settings reads from the environment where a function runs: which spec, which brokers, which state store. What to
// compute is the spec's business. The environment wins over the spec.
package settings

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/cloud"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/rediscreds"
)

// The variables.
const (
	EnvConfig       = "TIDEMARK_CONFIG"
	EnvBrokers      = "TIDEMARK_BROKERS"
	EnvRedis        = "TIDEMARK_REDIS"
	EnvKafkaAuth    = "TIDEMARK_KAFKA_AUTH"
	EnvKafkaSecret  = "TIDEMARK_KAFKA_SECRET"
	EnvKafkaCA      = "TIDEMARK_KAFKA_CA"
	EnvRedisAuth    = "TIDEMARK_REDIS_AUTH"
	EnvRedisSecret  = "TIDEMARK_REDIS_SECRET"
	EnvRedisUser    = "TIDEMARK_REDIS_USER"
	EnvRedisCache   = "TIDEMARK_REDIS_CACHE"
	EnvRedisService = "TIDEMARK_REDIS_SERVICE"
	EnvRedisCA      = "TIDEMARK_REDIS_CA"
	EnvFireTick     = "TIDEMARK_FIRE_TICK"
	EnvFireFunction = "TIDEMARK_FIRE_FUNCTION"
	EnvNudge        = "TIDEMARK_NUDGE"
	EnvLogLevel     = "TIDEMARK_LOG_LEVEL"
	EnvTraces       = "TIDEMARK_TRACES"
	EnvCheckpoints  = "TIDEMARK_CHECKPOINTS"
)

// Names returns all variables that functions read of their own, sorted.
func Names() []string {
	names := []string{
		EnvConfig, EnvBrokers, EnvRedis, EnvKafkaAuth, EnvKafkaSecret, EnvKafkaCA, EnvRedisAuth, EnvRedisSecret, EnvRedisUser, EnvRedisCache,
		EnvRedisService, EnvRedisCA, EnvFireTick, EnvFireFunction, EnvNudge, EnvLogLevel, EnvTraces, EnvCheckpoints,
	}
	slices.Sort(names)
	return names
}

// Ways in which Redis is told who this is.
const (
	redisURL    = "url" // as the URLs say
	redisSecret = "secret"
	redisIAM    = "iam"
)

// defaultConfig is the file that the package of a function carries.
const defaultConfig = "tidemark.yaml"

// maxTick keeps at least a few ticks in an invocation of a minute.
const maxTick = 30 * time.Second

// Settings are the environment, checked.
type Settings struct {
	ConfigFile string // place of the spec: a path, or one of cloud.Spec; default tidemark.yaml
	Brokers    []string
	Redis      []string // URLs; several are a cluster

	KafkaAuth   kafkaio.AuthKind
	KafkaSecret string // id or ARN
	KafkaCA     string // path, or id or ARN of a secret; empty: the system's roots

	RedisAuth    string // url (or empty), secret or iam
	RedisSecret  string
	RedisUser    string
	RedisCache   string
	RedisService string
	RedisCA      string

	FireTick     time.Duration // pause between two looks of a fire invocation; default 1 s
	FireFunction string        // what ingest asks to look; empty: nobody
	Nudge        bool          // whether it asks when a window may be closed, or for the genesis of partitions alone; default on
	LogLevel     slog.Level    // default INFO
	Traces       string        // none (or empty) or otlp
	Checkpoints  string        // where ops keeps checkpoints: a directory or s3:// URL; empty: the spec's checkpoint_path
}

// FromEnv reads the environment. All problems come at once.
func FromEnv(getenv func(string) string) (Settings, error) {
	s := Settings{
		ConfigFile: getenv(EnvConfig), Brokers: list(getenv(EnvBrokers)), Redis: list(getenv(EnvRedis)),
		KafkaSecret: getenv(EnvKafkaSecret), KafkaCA: getenv(EnvKafkaCA),
		RedisAuth: getenv(EnvRedisAuth), RedisSecret: getenv(EnvRedisSecret), RedisUser: getenv(EnvRedisUser), RedisCache: getenv(EnvRedisCache),
		RedisService: getenv(EnvRedisService), RedisCA: getenv(EnvRedisCA),
		FireTick: time.Second, FireFunction: getenv(EnvFireFunction), Nudge: true, Traces: getenv(EnvTraces), Checkpoints: getenv(EnvCheckpoints),
	}
	var errs []error
	if s.ConfigFile == "" {
		s.ConfigFile = defaultConfig
	}
	if cloud.IsSource(s.ConfigFile) {
		if err := cloud.CheckSource(s.ConfigFile); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", EnvConfig, err))
		}
	}
	errs = append(errs, s.checkKafka(getenv(EnvKafkaAuth)), s.checkRedis())
	if v := getenv(EnvFireTick); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil || d < 10*time.Millisecond || d > maxTick {
			errs = append(errs, fmt.Errorf("%s: must be a duration from 10ms to %s, got %q", EnvFireTick, maxTick, v))
		}
		s.FireTick = d
	}
	switch v := getenv(EnvNudge); v {
	case "", "on":
	case "off":
		s.Nudge = false
	default:
		errs = append(errs, fmt.Errorf("%s: must be on or off, got %q", EnvNudge, v))
	}
	if v := getenv(EnvLogLevel); v != "" {
		if err := s.LogLevel.UnmarshalText([]byte(v)); err != nil {
			errs = append(errs, fmt.Errorf("%s: must be DEBUG, INFO, WARN or ERROR, got %q", EnvLogLevel, v))
		}
	}
	if s.Traces != "" && s.Traces != "none" && s.Traces != "otlp" {
		errs = append(errs, fmt.Errorf("%s: must be none or otlp, got %q", EnvTraces, s.Traces))
	}
	return s, errors.Join(errs...)
}

// checkKafka sets the way of authentication, and says whether what it needs is there, and nothing that it does not use: who sets a
// secret means it to be asked for.
func (s *Settings) checkKafka(auth string) error {
	var errs []error
	kinds := []kafkaio.AuthKind{kafkaio.AuthNone, kafkaio.AuthTLS, kafkaio.AuthIAM, kafkaio.AuthSCRAM, kafkaio.AuthMTLS}
	i := slices.IndexFunc(kinds, func(k kafkaio.AuthKind) bool { return k.String() == auth })
	switch {
	case i >= 0:
		s.KafkaAuth = kinds[i]
	case auth != "":
		return fmt.Errorf("%s: must be none, tls, iam, scram or mtls, got %q", EnvKafkaAuth, auth)
	}
	needs := s.KafkaAuth == kafkaio.AuthSCRAM || s.KafkaAuth == kafkaio.AuthMTLS
	if needs && s.KafkaSecret == "" {
		errs = append(errs, fmt.Errorf("%s: needed by %s=%s", EnvKafkaSecret, EnvKafkaAuth, s.KafkaAuth))
	}
	if !needs && s.KafkaSecret != "" {
		errs = append(errs, fmt.Errorf("%s: only for %s=scram or mtls, not %s", EnvKafkaSecret, EnvKafkaAuth, s.KafkaAuth))
	}
	if s.KafkaAuth == kafkaio.AuthNone && s.KafkaCA != "" {
		errs = append(errs, fmt.Errorf("%s: without TLS nothing is trusted: %s is none", EnvKafkaCA, EnvKafkaAuth))
	}
	return errors.Join(errs...)
}

// checkRedis is what checkKafka is, for Redis. Passwords that Redis is sent need TLS where they are not those of the URLs.
func (s *Settings) checkRedis() error {
	var errs []error
	iam := s.RedisAuth == redisIAM
	switch s.RedisAuth {
	case "", redisURL, redisSecret, redisIAM:
	default:
		return fmt.Errorf("%s: must be url, secret or iam, got %q", EnvRedisAuth, s.RedisAuth)
	}
	for _, v := range []struct {
		name, value string
		needed      bool
		auth        string
	}{
		{EnvRedisSecret, s.RedisSecret, s.RedisAuth == redisSecret, redisSecret},
		{EnvRedisUser, s.RedisUser, iam, redisIAM},
		{EnvRedisCache, s.RedisCache, iam, redisIAM},
		{EnvRedisService, s.RedisService, iam, redisIAM},
	} {
		if v.needed && v.value == "" {
			errs = append(errs, fmt.Errorf("%s: needed by %s=%s", v.name, EnvRedisAuth, v.auth))
		}
		if !v.needed && v.value != "" {
			errs = append(errs, fmt.Errorf("%s: only for %s=%s", v.name, EnvRedisAuth, v.auth))
		}
	}
	if iam && s.RedisService != "" && !slices.Contains(rediscreds.Services(), s.RedisService) {
		errs = append(errs, fmt.Errorf("%s: must be %s, got %q", EnvRedisService, strings.Join(rediscreds.Services(), ", "), s.RedisService))
	}
	if s.RedisAuth == redisSecret || iam || s.RedisCA != "" {
		for i, url := range s.Redis {
			if !strings.HasPrefix(url, "rediss://") {
				errs = append(errs, fmt.Errorf("%s: URL %d must begin with rediss://: %s or %s asks for TLS", EnvRedis, i+1, EnvRedisAuth, EnvRedisCA))
			}
		}
	}
	return errors.Join(errs...)
}

func list(v string) []string {
	var out []string
	for s := range strings.SplitSeq(v, ",") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// loadApp reads the spec from its place.
func (s Settings) loadApp(ctx context.Context, aws *cloud.Cloud, with ...spec.Option) (*spec.App, error) {
	var data []byte
	var err error
	if cloud.IsSource(s.ConfigFile) {
		data, err = aws.Spec(ctx, s.ConfigFile)
	} else {
		data, err = os.ReadFile(s.ConfigFile)
	}
	if err != nil {
		return nil, fmt.Errorf("read the spec (%s): %w", EnvConfig, err)
	}
	return spec.Load(data, s.ConfigFile, with...)
}
