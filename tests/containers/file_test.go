package containers_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

// root is the top of the repository.
var root = filepath.Join("..", "..")

// service is what these tests read of one in localdev/compose.yaml.
type service struct {
	Image   string   `yaml:"image"`
	Restart string   `yaml:"restart"`
	Ports   []string `yaml:"ports"`
	Command []string `yaml:"command"`
	Volumes []struct {
		Type, Source, Target string
		ReadOnly             bool `yaml:"read_only"`
	}
	Healthcheck map[string]any `yaml:"healthcheck"`
	DependsOn   map[string]struct {
		Condition string `yaml:"condition"`
	} `yaml:"depends_on"`
}

func composeFile(t *testing.T) map[string]service {
	t.Helper()
	var file struct {
		Services map[string]service `yaml:"services"`
	}
	if err := yaml.Unmarshal([]byte(read(t, "localdev/compose.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Services) == 0 {
		t.Fatal("no service in localdev/compose.yaml")
	}
	return file.Services
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What the tests run on is what the compose file names.
func TestComposeNamesTheImagesOfTheTests(t *testing.T) {
	var want, got []string
	for _, m := range regexp.MustCompile(`(?m)^[A-Z]+_IMAGE=(.+)$`).FindAllStringSubmatch(read(t, "tests/containers/lib.sh"), -1) {
		want = append(want, m[1])
	}
	for _, s := range composeFile(t) {
		got = append(got, s.Image)
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, slices.Compact(got)); diff != "" {
		t.Errorf("(-tests +compose):\n%s", diff)
	}
}

func TestComposeReachesNothingOutsideOfTheRepositoryAndPublishesOnThisMachineAlone(t *testing.T) {
	for name, s := range composeFile(t) {
		for _, port := range s.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s publishes %s", name, port)
			}
		}
		for _, v := range s.Volumes {
			file := filepath.ToSlash(filepath.Join("localdev", v.Source))
			if filepath.IsAbs(v.Source) || strings.HasPrefix(file, "..") || v.Type != "bind" || !v.ReadOnly {
				t.Errorf("%s mounts %s (%s)", name, v.Source, v.Type)
			}
			if _, err := os.Stat(filepath.Join(root, file)); err != nil && !strings.HasPrefix(file, "dist/containers/") {
				t.Errorf("%s mounts %s: %v", name, v.Source, err)
			}
		}
	}
}

func TestComposeStartsServicesInTheirOrderAndAgain(t *testing.T) {
	services := composeFile(t)
	for name, s := range services {
		if once := name == "topics"; s.Restart != map[bool]string{true: "no", false: "unless-stopped"}[once] {
			t.Errorf("%s: restart is %q", name, s.Restart)
		}
		for on, d := range s.DependsOn {
			if d.Condition == "service_healthy" && services[on].Healthcheck == nil {
				t.Errorf("%s waits until %s is healthy, which nothing checks", name, on)
			}
			if d.Condition != "service_healthy" && d.Condition != "service_completed_successfully" {
				t.Errorf("%s waits for %s to be %s", name, on, d.Condition)
			}
		}
		if len(s.DependsOn) == 0 && s.Healthcheck == nil {
			t.Errorf("%s waits for nothing, and nobody can wait for it", name)
		}
	}
}
