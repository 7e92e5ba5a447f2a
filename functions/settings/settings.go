// Package settings reads from the environment where a function runs: which spec, which brokers, which state store. What to
// compute is the spec's business. The environment wins over the spec.
package settings

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/spec"
)

// The variables.
const (
	EnvConfig      = "TIDEMARK_CONFIG"
	EnvBrokers     = "TIDEMARK_BROKERS"
	EnvRedis       = "TIDEMARK_REDIS"
	EnvKafkaAuth   = "TIDEMARK_KAFKA_AUTH"
	EnvKafkaSecret = "TIDEMARK_KAFKA_SECRET"
	EnvFireTick    = "TIDEMARK_FIRE_TICK"
	EnvLogLevel    = "TIDEMARK_LOG_LEVEL"
	EnvCheckpoints = "TIDEMARK_CHECKPOINTS"
)

// defaultConfig is the file that the package of a function carries.
const defaultConfig = "tidemark.yaml"

// maxTick keeps at least a few ticks in an invocation of a minute.
const maxTick = 30 * time.Second

// Settings are the environment, checked.
type Settings struct {
	Checkpoints string        // where ops keeps checkpoints: a directory or s3:// URL; empty: the spec's checkpoint_path
	ConfigFile  string        // path of the spec; default tidemark.yaml
	Brokers     []string      // empty: those of the spec
	Redis       []string      // URLs; several are a cluster
	FireTick    time.Duration // pause between two looks of a fire invocation; default 1 s
	LogLevel    slog.Level    // default INFO
}

// FromEnv reads the environment. All problems come at once.
func FromEnv(getenv func(string) string) (Settings, error) {
	s := Settings{Checkpoints: getenv(EnvCheckpoints), ConfigFile: getenv(EnvConfig), Brokers: list(getenv(EnvBrokers)), Redis: list(getenv(EnvRedis)), FireTick: time.Second}
	var errs []error
	if s.ConfigFile == "" {
		s.ConfigFile = defaultConfig
	}
	if strings.HasPrefix(s.ConfigFile, "s3://") || strings.HasPrefix(s.ConfigFile, "ssm:") {
		errs = append(errs, fmt.Errorf("%s: not supported yet: %s; put the spec into the package and name its path", EnvConfig, s.ConfigFile))
	}
	if a := getenv(EnvKafkaAuth); a != "" && a != "none" {
		errs = append(errs, fmt.Errorf("%s: not supported yet: %q; only none is", EnvKafkaAuth, a))
	}
	if getenv(EnvKafkaSecret) != "" {
		errs = append(errs, fmt.Errorf("%s: not supported yet: only %s=none is", EnvKafkaSecret, EnvKafkaAuth))
	}
	if v := getenv(EnvFireTick); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil || d < 10*time.Millisecond || d > maxTick {
			errs = append(errs, fmt.Errorf("%s: must be a duration from 10ms to %s, got %q", EnvFireTick, maxTick, v))
		}
		s.FireTick = d
	}
	if v := getenv(EnvLogLevel); v != "" {
		if err := s.LogLevel.UnmarshalText([]byte(v)); err != nil {
			errs = append(errs, fmt.Errorf("%s: must be DEBUG, INFO, WARN or ERROR, got %q", EnvLogLevel, v))
		}
	}
	return s, errors.Join(errs...)
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

// LoadApp reads the spec.
func (s Settings) LoadApp() (*spec.App, error) {
	data, err := os.ReadFile(s.ConfigFile)
	if err != nil {
		return nil, fmt.Errorf("read the spec (%s): %w", EnvConfig, err)
	}
	return spec.Load(data, s.ConfigFile)
}
