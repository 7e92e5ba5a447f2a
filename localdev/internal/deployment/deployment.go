// Package deployment runs what a template deploys on this machine: its functions behind the Runtime API, the mappings that hand them
// records, the schedules that invoke them, and Lambda's API between them.
package deployment

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/settings"
	"github.com/llm-auto-optimizer/tidemark/localdev/host"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/lambda"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/schedule"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/template"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/trigger"
)

// Sentinels.
var (
	// ErrBootstrap is returned where the binary of a function is not there and cannot be built.
	ErrBootstrap = errors.New("deployment: bootstrap")
	// ErrOptions is returned for options that do not go together with the template.
	ErrOptions = errors.New("deployment: options")
)

// Kind is what environments run in.
type Kind uint8

// The kinds.
const (
	Process   Kind = iota // processes of this machine
	Container             // containers that are started here
	Served                // whoever asks at the addresses of Options.RuntimeAPIs
)

// Options of a deployment.
type Options struct {
	Template *template.Template
	Root     string // folder of the template: what its functions are built from
	Kind     Kind
	// Bootstraps has FUNCTION/bootstrap for each function, FUNCTION being its logical id in lower case; "": they are built.
	Bootstraps  string
	RuntimeAPIs map[string]string // Served: logical id to address

	Config   string // file of the spec
	Brokers  []string
	Redis    []string      // URLs
	FireTick time.Duration // 0: the template's

	LambdaAPI string // address of Lambda's API; "": a free port of 127.0.0.1
	Freeze    bool
	Overrun   time.Duration // see host.Options

	// Hooks of the mapping of a name.
	Hooks func(mapping string) trigger.Hooks
	// OnReport is told what each invocation came to; nil: nobody.
	OnReport func(host.Report)
	Logger   *slog.Logger
}

// Deployment is what runs.
type Deployment struct {
	o         Options
	dir       string // of what was built, and of task roots; "": nothing was made
	hosts     map[string]*host.Function
	service   *lambda.Service
	api       *lambda.Server
	url       string // of the API
	mappings  []trigger.Options
	schedules []schedule.Schedule
	close     func() error
}

// Open makes the functions and serves Lambda's API. Nothing invokes them yet. Close ends it.
func Open(ctx context.Context, o Options) (*Deployment, error) {
	d := &Deployment{o: o, hosts: map[string]*host.Function{}}
	d.close = sync.OnceValue(d.end)
	if err := d.open(ctx); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Deployment) open(ctx context.Context) (err error) {
	address := d.o.LambdaAPI
	if address == "" {
		address = "127.0.0.1:0"
	}
	for name := range d.o.RuntimeAPIs {
		if !slices.ContainsFunc(d.o.Template.Functions, func(f template.Function) bool { return f.Name == name }) {
			return fmt.Errorf("%w: there is no function %s in %s", ErrOptions, name, d.o.Template.Name)
		}
	}
	for i := range d.o.Template.Schedules {
		s := &d.o.Template.Schedules[i]
		if s.Disabled {
			continue
		}
		one, err := schedule.FromTemplate(s)
		if err != nil {
			return err
		}
		d.schedules = append(d.schedules, one)
	}
	binaries, err := d.binaries(ctx)
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("API of Lambda: %w", err)
	}
	d.url = "http://" + listener.Addr().String() // which the functions' environment has
	var functions []lambda.Function
	for i := range d.o.Template.Functions {
		f := &d.o.Template.Functions[i]
		h, err := d.function(ctx, f, binaries[f.Name])
		if err != nil {
			return errors.Join(err, listener.Close())
		}
		if h == nil {
			continue // nobody serves it
		}
		d.hosts[f.Name] = h
		functions = append(functions, lambda.Function{
			Name: f.Name, Run: h, Disabled: f.Concurrency == 0, Retries: f.Retries, MaxAge: time.Duration(f.MaxAge) * time.Second,
		})
	}
	d.service = lambda.New(ctx, d.o.Logger, functions...)
	d.api = d.service.Serve(listener)
	return d.connect()
}

// connect makes the triggers of the mappings.
func (d *Deployment) connect() error {
	var errs []error
	for i := range d.o.Template.Mappings {
		m := &d.o.Template.Mappings[i]
		f := d.hosts[m.Function]
		switch {
		case m.Disabled:
			continue
		case f == nil:
			errs = append(errs, fmt.Errorf("%w: mapping %s: there is no function %s", ErrOptions, m.Name, m.Function))
			continue
		}
		o, err := trigger.FromMapping(m)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if o.Group == "" {
			o.Group = host.NewRequestID() // as Lambda does
		}
		o.Brokers, o.Logger, o.FunctionARN = d.o.Brokers, d.o.Logger, f.ARN()
		// The host enforces the time-out, from the moment that the cold start is over.
		o.Timeout = f.Timeout() + 2*host.InitLimit
		o.Invoke = func(ctx context.Context, payload []byte) ([]byte, error) {
			body, _, err := d.service.Do(ctx, m.Function, host.Request{Payload: payload})
			return body, err
		}
		if d.o.Hooks != nil {
			o.Hooks = d.o.Hooks(m.Name)
		}
		d.mappings = append(d.mappings, o)
	}
	return errors.Join(errs...)
}

// API is the URL of Lambda's API.
func (d *Deployment) API() string { return d.url }

// Service is Lambda's API within this process.
func (d *Deployment) Service() *lambda.Service { return d.service }

// TakeOver has what the schedules invoke told to take over again: see apply.Nudge.
func (d *Deployment) TakeOver() error {
	payload, err := json.Marshal(apply.Nudge{TakeOver: true})
	if err != nil {
		return err
	}
	for _, s := range d.schedules {
		if err := d.service.Send(s.Function, host.Request{Payload: payload}); err != nil {
			return err
		}
	}
	return nil
}

// Function returns a function by its logical id, nil if there is none.
func (d *Deployment) Function(name string) *host.Function { return d.hosts[name] }

// Mappings is the number of mappings that are enabled.
func (d *Deployment) Mappings() int { return len(d.mappings) }

// Run hands over records and keeps the schedules until ctx ends; then it waits for batches under way, up to three seconds. An error
// means that a mapping could not start.
func (d *Deployment) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	errs := make([]error, len(d.mappings))
	for i := range d.mappings {
		all.Go(func() {
			if errs[i] = trigger.Run(ctx, d.mappings[i]); errs[i] != nil {
				cancel()
			}
		})
	}
	all.Go(func() {
		schedule.Run(ctx, d.schedules, func(function string, payload []byte) error {
			return d.service.Send(function, host.Request{Payload: payload})
		}, d.o.Logger)
	})
	all.Wait()
	return errors.Join(errs...)
}

// Close ends the functions, with all of their environments, and the API. It may be called again.
func (d *Deployment) Close() error { return d.close() }

func (d *Deployment) end() error {
	var err error
	if d.api != nil {
		err = d.api.Close()
	}
	var all sync.WaitGroup
	for _, f := range d.hosts {
		all.Go(f.Close)
	}
	all.Wait()
	if d.service != nil {
		d.service.Close()
	}
	if d.dir != "" {
		err = errors.Join(err, os.RemoveAll(d.dir))
	}
	return err
}

// binaries returns the bootstrap of each function, after it has built what there is not.
func (d *Deployment) binaries(ctx context.Context) (map[string]string, error) {
	out := map[string]string{}
	if d.o.Kind == Served {
		return out, nil
	}
	for _, f := range d.o.Template.Functions {
		name := strings.ToLower(f.Name)
		if d.o.Bootstraps != "" {
			out[f.Name] = filepath.Join(d.o.Bootstraps, name, "bootstrap")
			if _, err := os.Stat(out[f.Name]); err != nil {
				return nil, fmt.Errorf("%w of %s: %w", ErrBootstrap, f.Name, err)
			}
			continue
		}
		pkg := "./functions/" + name + "/bootstrap"
		if _, err := os.Stat(filepath.Join(d.o.Root, pkg)); err != nil {
			return nil, fmt.Errorf("%w of %s: %w; build it yourself, and say where it is", ErrBootstrap, f.Name, err)
		}
		dir, err := d.folder(name)
		if err != nil {
			return nil, fmt.Errorf("%w of %s: %w", ErrBootstrap, f.Name, err)
		}
		build := host.Build
		if d.o.Kind == Container {
			build = host.BuildLinux
		}
		out[f.Name] = filepath.Join(dir, "bootstrap")
		if err := build(ctx, d.o.Root, pkg, out[f.Name]); err != nil {
			return nil, fmt.Errorf("%w of %s: %w", ErrBootstrap, f.Name, err)
		}
	}
	return out, nil
}

// folder makes a function's folder in a temporary one that Close removes, unless it is there, and returns its path.
func (d *Deployment) folder(name string) (string, error) {
	if d.dir == "" {
		var err error
		if d.dir, err = os.MkdirTemp("", "tidemark-bootstraps-"); err != nil {
			return "", err
		}
	}
	path := filepath.Join(d.dir, name)
	return path, os.MkdirAll(path, 0o750)
}

// function makes the host of a function.
func (d *Deployment) function(ctx context.Context, f *template.Function, binary string) (*host.Function, error) {
	o := host.Options{
		Name: f.Name, Binary: binary, Timeout: time.Duration(f.Timeout) * time.Second, Overrun: d.o.Overrun, Memory: f.Memory, Concurrency: max(0, f.Concurrency),
		Freeze: d.o.Freeze, LogFormat: f.LogFormat, LogLevel: f.LogLevel, OnReport: d.o.OnReport,
	}
	switch d.o.Kind {
	case Process:
	case Container:
		// The task root is the folder of the bootstrap, with the spec beside it: nothing else of this machine is in sight.
		spec, err := os.ReadFile(d.o.Config)
		if err == nil {
			o.TaskRoot, err = d.folder(strings.ToLower(f.Name))
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(o.TaskRoot, containerSpec), spec, 0o600) //nolint:gosec // a folder that was made above
		}
		if err != nil {
			return nil, fmt.Errorf("task root of %s: %w", f.Name, err)
		}
		o.Container = &host.Container{}
	case Served:
		if o.Listen = d.o.RuntimeAPIs[f.Name]; o.Listen == "" {
			return nil, nil //nolint:nilnil // nobody serves it: it cannot be invoked
		}
		return host.Open(ctx, o)
	}
	o.Env = d.environment(f)
	return host.New(o), nil
}

// containerSpec is the spec's name in a container's task root.
const containerSpec = "tidemark.yaml"

// environment is the template's, but for how things are reached: that is this machine's business.
func (d *Deployment) environment(f *template.Function) []string {
	vars := maps.Clone(f.Environment)
	for _, name := range []string{
		settings.EnvKafkaSecret, settings.EnvKafkaCA, settings.EnvRedisSecret, settings.EnvRedisUser, settings.EnvRedisCache, settings.EnvRedisService, settings.EnvRedisCA,
		settings.EnvTraces,
	} {
		delete(vars, name)
	}
	vars[settings.EnvConfig] = d.o.Config
	if d.o.Kind == Container {
		vars[settings.EnvConfig] = containerSpec
	}
	vars[settings.EnvBrokers] = strings.Join(d.o.Brokers, ",")
	vars[settings.EnvKafkaAuth] = "none"
	vars[settings.EnvRedis] = strings.Join(d.o.Redis, ",")
	vars[settings.EnvRedisAuth] = "url"
	if _, ok := vars[settings.EnvFireTick]; ok && d.o.FireTick > 0 {
		vars[settings.EnvFireTick] = d.o.FireTick.String()
	}
	vars["AWS_ENDPOINT_URL_LAMBDA"] = d.API()
	out := make([]string, 0, len(vars))
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		out = append(out, name+"="+vars[name])
	}
	return out
}
