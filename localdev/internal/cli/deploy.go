package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/template"
)

// checkTemplate compares a deployment with the spec that it runs.
func checkTemplate(name string, parameters map[string]string, app *spec.App) ([]template.Problem, error) {
	data, err := os.ReadFile(name) //nolint:gosec // the user names the file
	if err != nil {
		return nil, usage("--template: %w", err)
	}
	t, err := template.Load(data, name, parameters)
	if errors.Is(err, template.ErrParameter) {
		return nil, usage("--parameter: %w", err)
	}
	if err != nil {
		return nil, usage("--template: %w", err)
	}
	return template.Check(t, app), nil
}

// errTemplate is returned where template and spec do not go together.
var errTemplate = errors.New("template and spec do not go together")

// judge counts what is no mere warning.
func judge(found []template.Problem) error {
	n := 0
	for _, p := range found {
		if !p.Warning {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%w: %d problems", errTemplate, n)
}
