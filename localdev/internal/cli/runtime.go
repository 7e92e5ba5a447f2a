package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/localdev/host"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/deployment"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/template"
)

// What runs the functions.
const (
	runtimeInprocess = "inprocess"
	runtimeProcess   = "process"
	runtimeContainer = "container"
	runtimeServed    = "served"
)

// runtimeFlags are those of run that say what the functions are.
type runtimeFlags struct {
	Runtime      string            `default:"inprocess" enum:"inprocess,process,container,served" placeholder:"KIND" help:"What runs the functions: inprocess, their handlers; process or container, what --template deploys, as Lambda runs it; served, whoever asks at --runtime-api."`
	Template     string            `placeholder:"FILE" help:"SAM or CloudFormation template that --runtime deploys here. Default: template.yaml."`
	Parameter    map[string]string `placeholder:"NAME=VALUE" mapsep:"none" help:"A parameter of the template that is not the default. May be repeated."`
	Bootstraps   string            `placeholder:"DIR" help:"Has FUNCTION/bootstrap for each function of the template, its logical id in lower case. Default: they are built."`
	RuntimeAPI   map[string]string `name:"runtime-api" placeholder:"FUNCTION=ADDR" mapsep:"none" help:"With --runtime served: where a function's Runtime API listens, for environments whose AWS_LAMBDA_RUNTIME_API names it. May be repeated."`
	LambdaListen string            `placeholder:"ADDR" default:"127.0.0.1:0" help:"Address of Lambda's API, by which functions invoke each other, and you them."`
	Freeze       bool              `default:"true" negatable:"" help:"With --runtime process on Linux: stop an environment (SIGSTOP) while it waits, as Lambda freezes it."`
	Overrun      time.Duration     `default:"2s" help:"How long an environment goes on after its invocation has timed out."`
}

// deployed reports whether the functions are those of a template.
func (f *runtimeFlags) deployed() bool { return f.Runtime != runtimeInprocess }

// check refuses flags that do not go together.
func (f *runtimeFlags) check(c *runCmd, app *spec.App) error {
	if !f.deployed() {
		for flag, given := range map[string]bool{
			"--template": f.Template != "", "--parameter": len(f.Parameter) > 0, "--bootstraps": f.Bootstraps != "", "--runtime-api": len(f.RuntimeAPI) > 0,
		} {
			if given {
				return usage("%s needs --runtime process, container or served: in this process the handlers run without a template", flag)
			}
		}
		return nil
	}
	switch {
	case len(c.Brokers) == 0:
		return usage("--runtime %s needs --brokers and --redis: the functions are processes of their own, which share a Kafka and a Redis", f.Runtime)
	case len(c.Redis) == 0 && app.State.Backend != spec.BackendRedis:
		return usage("--runtime %s needs --redis: state in %s lives in one process, and the functions are several", f.Runtime, app.State.Backend)
	case len(c.Redis) == 0:
		return usage("--runtime %s needs --redis URL", f.Runtime)
	case c.Config == "":
		return usage("--runtime %s needs --config FILE: the functions read it (run --print-config prints the one that is built in)", f.Runtime)
	case (f.Runtime == runtimeServed) != (len(f.RuntimeAPI) > 0):
		return usage("--runtime served and --runtime-api belong together: it says where environments ask for work")
	case f.Overrun < 0:
		return usage("--overrun must not be negative, got %s", f.Overrun)
	}
	return nil
}

// standIns are values of parameters that only a deployment has, and nothing here looks at.
func (f *runtimeFlags) standIns(c *runCmd) map[string]string {
	return map[string]string{
		"Brokers": strings.Join(c.Brokers, ","), "RedisUrls": strings.Join(c.Redis, ","), "SubnetIds": "subnet-local1,subnet-local2", "SecurityGroupIds": "sg-local",
	}
}

// defaultTemplate is the file that is taken where none is named.
const defaultTemplate = "template.yaml"

// options reads the template and says how it is run here.
func (f *runtimeFlags) options(ctx context.Context, c *runCmd, e *env, app *spec.App) (*deployment.Options, error) {
	name := f.Template
	if name == "" {
		name = defaultTemplate
	}
	data, err := os.ReadFile(name) //nolint:gosec // the user names the file
	if err != nil {
		return nil, usage("--template: %w", err)
	}
	t, err := template.LoadWith(data, name, f.Parameter, f.standIns(c))
	if errors.Is(err, template.ErrParameter) {
		return nil, usage("--parameter: %w", err)
	}
	if err != nil {
		return nil, usage("--template: %w", err)
	}
	found := template.Check(t, app)
	var problems []string
	for _, p := range found {
		if p.Warning {
			e.logger.WarnContext(ctx, "template and spec", "warning", p.String())
			continue
		}
		problems = append(problems, p.String())
	}
	if len(problems) > 0 {
		return nil, usage("%s and %s do not go together:\n%s", name, c.Config, strings.Join(problems, "\n"))
	}
	config, err := filepath.Abs(c.Config)
	if err != nil {
		return nil, usage("--config: %w", err)
	}
	o := &deployment.Options{
		Template: t, Root: filepath.Dir(name), Bootstraps: f.Bootstraps, RuntimeAPIs: f.RuntimeAPI, Config: config, LambdaAPI: f.LambdaListen,
		Overrun: f.Overrun, Freeze: f.Freeze && runtime.GOOS == "linux" && f.Runtime == runtimeProcess,
	}
	if c.Tick != nil {
		o.FireTick = *c.Tick
	}
	if o.Overrun == 0 {
		o.Overrun = -1
	}
	switch f.Runtime {
	case runtimeContainer:
		o.Kind = deployment.Container
		if err := (host.Container{}).CheckDocker(ctx); err != nil {
			return nil, fmt.Errorf("--runtime container: %w", err)
		}
	case runtimeServed:
		o.Kind = deployment.Served
	}
	return o, nil
}

// describe says what runs.
func (f *runtimeFlags) describe(t *template.Template) string {
	names := make([]string, len(t.Functions))
	for i := range t.Functions {
		names[i] = t.Functions[i].Name
	}
	says := []string{fmt.Sprintf("%s: %s, %d mappings, %d schedules, as %s", t.Name, strings.Join(names, ", "), len(t.Mappings), len(t.Schedules),
		map[string]string{runtimeProcess: "processes", runtimeContainer: "containers", runtimeServed: "environments that come by themselves"}[f.Runtime])}
	for _, name := range slices.Sorted(maps.Keys(f.RuntimeAPI)) {
		says = append(says, fmt.Sprintf("%s at %s", name, f.RuntimeAPI[name]))
	}
	return strings.Join(says, "; ")
}
