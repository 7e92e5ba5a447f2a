package cli_test

import (
	"path/filepath"
	"strings"
	"testing"
)

// What a template cannot be run with is refused before anything is begun, with what to do.
func TestRuntimesNeedWhatTheyNeed(t *testing.T) {
	spec := write(t, "spec.yaml", smallSpec)
	bolt := write(t, "bolt.yaml", strings.Replace(smallSpec, "processor:", "processor:\n  state: {backend: bolt}", 1))
	template := filepath.Join("..", "..", "..", "template.yaml")
	servers := []string{"--brokers", "127.0.0.1:1", "--redis", "redis://127.0.0.1:1"}
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"no brokers":              {[]string{"--runtime", "process", "--config", spec}, "--runtime process needs --brokers and --redis"},
		"no redis":                {[]string{"--runtime", "process", "--config", spec, "--brokers", "b:1"}, "needs --redis URL"},
		"bolt":                    {[]string{"--runtime", "container", "--config", bolt, "--brokers", "b:1"}, "state in bolt lives in one process"},
		"no spec":                 {append([]string{"--runtime", "process"}, servers...), "needs --config FILE"},
		"no such runtime":         {[]string{"--runtime", "vm"}, "inprocess"},
		"template in process":     {[]string{"--template", template}, "--template needs --runtime process"},
		"parameter in process":    {[]string{"--parameter", "A=b"}, "--parameter needs --runtime"},
		"bootstraps in process":   {[]string{"--bootstraps", "dist"}, "--bootstraps needs --runtime"},
		"served by nobody":        {append([]string{"--runtime", "served", "--config", spec}, servers...), "belong together"},
		"addresses for processes": {append([]string{"--runtime", "process", "--config", spec, "--runtime-api", "Fire=127.0.0.1:0"}, servers...), "belong together"},
		"no template":             {append([]string{"--runtime", "process", "--config", spec, "--template", "none.yaml"}, servers...), "--template: open none.yaml"},
		"no such parameter":       {append([]string{"--runtime", "process", "--config", spec, "--template", template, "--parameter", "Nothing=1"}, servers...), "--parameter: "},
		"another app":             {append([]string{"--runtime", "process", "--config", spec, "--template", template}, servers...), "do not go together"},
		"overrun":                 {append([]string{"--runtime", "process", "--config", spec, "--overrun=-1s"}, servers...), "--overrun must not be negative"},
	} {
		t.Run(name, func(t *testing.T) {
			got := execute(t, nil, append([]string{"run"}, c.args...)...)
			if got.code != 2 || !strings.Contains(got.err, c.says) {
				t.Errorf("%s, want 2 and %q", got, c.says)
			}
		})
	}
}
