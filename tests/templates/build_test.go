//go:build templates

package templates_test

import (
	"debug/elf"
	"os"
	"path/filepath"
	"testing"
)

// mostZip is the largest package, in bytes.
const mostZip = 15 << 20

// sam build makes the nested stacks as well: their templates are found, and the functions are built as they are for template.yaml alone.
func TestSamBuildsSmallPackagesForBothMachines(t *testing.T) {
	for arch, machine := range map[string]elf.Machine{"arm64": elf.EM_AARCH64, "x86_64": elf.EM_X86_64} {
		t.Run(arch, func(t *testing.T) {
			out, from, functions := t.TempDir(), "infra/everything.yaml", "Application"
			if arch == "x86_64" {
				from, functions = "template.yaml", ""
			}
			tool(t, []string{"ARCHITECTURE=" + arch}, "sam/bin/sam", "build", "--template-file", from, "--build-dir", out,
				"--parameter-overrides", "Architecture="+arch)
			if functions != "" {
				for _, stack := range []string{"NetworkStack", "ClusterStack", "TopicStack", "StoreStack", "AlarmStack", "DashboardStack"} {
					if _, err := os.Stat(filepath.Join(out, stack, "template.yaml")); err != nil {
						t.Error(err)
					}
				}
			}
			for _, name := range []string{"Ingest", "Fire", "Ops"} {
				dir := filepath.Join(out, functions, name)
				entries, err := os.ReadDir(dir)
				if err != nil {
					t.Fatal(err)
				}
				if len(entries) != 2 || entries[0].Name() != "bootstrap" || entries[1].Name() != "tidemark.yaml" {
					t.Errorf("package of %s: %v", name, entries)
				}
				size := zipped(t, dir)
				t.Logf("%s: %.1f MiB zipped", name, float64(size)/(1<<20))
				if size == 0 || size > mostZip {
					t.Errorf("package of %s has %d bytes, at most %d", name, size, mostZip)
				}
				static(t, filepath.Join(dir, "bootstrap"), machine)
			}
		})
	}
}

// static holds a binary to what provided.al2023 runs: the right machine, and nothing that has to be there to link with.
func static(t *testing.T, file string, machine elf.Machine) {
	t.Helper()
	f, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Machine != machine || f.Type != elf.ET_EXEC {
		t.Errorf("%s is a %s for %s, want a program for %s", file, f.Type, f.Machine, machine)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("%s wants a dynamic linker", file)
		}
	}
}
