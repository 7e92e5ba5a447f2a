package host

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// variables is the environment of a process as Lambda sets it, with taskRoot and the function's own variables, which win.
// Credentials are none that any AWS takes.
func (f *Function) variables(api, taskRoot string, number int) []string {
	o := &f.opts
	format := o.LogFormat
	if format == "" {
		format = "Text"
	}
	vars := []string{
		"AWS_LAMBDA_RUNTIME_API=" + api,
		"AWS_LAMBDA_FUNCTION_NAME=" + o.Name,
		"AWS_LAMBDA_FUNCTION_VERSION=$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=" + strconv.Itoa(f.memory()),
		"AWS_LAMBDA_INITIALIZATION_TYPE=on-demand",
		"AWS_LAMBDA_LOG_GROUP_NAME=/aws/lambda/" + o.Name,
		"AWS_LAMBDA_LOG_STREAM_NAME=local/[$LATEST]" + strconv.Itoa(number),
		"AWS_LAMBDA_LOG_FORMAT=" + format,
		"AWS_REGION=" + o.Region,
		"AWS_DEFAULT_REGION=" + o.Region,
		"AWS_ACCESS_KEY_ID=local",
		"AWS_SECRET_ACCESS_KEY=local",
		"AWS_SESSION_TOKEN=local",
		"LAMBDA_TASK_ROOT=" + taskRoot,
		"LAMBDA_RUNTIME_DIR=/var/runtime",
		"_HANDLER=bootstrap",
		"TZ=:UTC",
		"LANG=en_US.UTF-8",
	}
	if o.LogLevel != "" {
		vars = append(vars, "AWS_LAMBDA_LOG_LEVEL="+o.LogLevel)
	}
	return append(vars, o.Env...)
}

// taskRoot is the working folder of a process.
func (f *Function) taskRoot() (binary, root string, err error) {
	if binary, err = filepath.Abs(f.opts.Binary); err != nil {
		return "", "", err
	}
	if f.opts.TaskRoot == "" {
		return binary, filepath.Dir(binary), nil
	}
	root, err = filepath.Abs(f.opts.TaskRoot)
	return binary, root, err
}

// Build compiles a package of the project (./functions/ingest/bootstrap) as it is deployed, but for this machine, to the file
// out. root is the top of the repository; another working folder does not matter.
func Build(ctx context.Context, root, pkg, out string) error {
	return build(ctx, root, pkg, out)
}

// BuildLinux is Build for Lambda's system on this machine's architecture: what a container runs.
func BuildLinux(ctx context.Context, root, pkg, out string) error {
	return build(ctx, root, pkg, out, "GOOS=linux")
}

func build(ctx context.Context, root, pkg, out string, env ...string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-tags", "lambda.norpc", "-trimpath", "-ldflags", "-s -w", "-o", out, pkg) //nolint:gosec // the go command, on a package of the project
	cmd.Dir = root
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", pkg, err, text)
	}
	return nil
}
