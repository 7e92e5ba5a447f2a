//go:build servers

package deploy_test

import (
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// maxZip is the most that a package may take, in bytes: Lambda downloads it in every cold start of a new host.
const maxZip = 15 << 20

func TestPackagesAreSmallAndRunOnLambda(t *testing.T) {
	machines := map[string]elf.Machine{"arm64": elf.EM_AARCH64, "amd64": elf.EM_X86_64}
	for arch, machine := range machines {
		for _, name := range functions(t) {
			t.Run(arch+"/"+name, func(t *testing.T) {
				file := deployed(t, name, "linux", arch)
				if n := zipped(t, file); n > maxZip {
					t.Errorf("the package has %.1f MB, at most %d MB are allowed", float64(n)/(1<<20), maxZip>>20)
				} else {
					t.Logf("%.1f MB zipped", float64(n)/(1<<20))
				}
				checkELF(t, file, machine)
				checkFlags(t, file, arch)
			})
		}
	}
}

// checkELF holds a binary against what provided.al2023 runs: the right machine, and nothing that has to be there to link with.
func checkELF(t *testing.T, file string, machine elf.Machine) {
	t.Helper()
	f, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Machine != machine || f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		t.Errorf("%s, %s; want a program for %s", f.Machine, f.Type, machine)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("it wants a dynamic linker")
		}
	}
	if f.Section(".symtab") != nil || f.Section(".debug_info") != nil {
		t.Error("it carries symbols")
	}
}

func checkFlags(t *testing.T, file, arch string) {
	t.Helper()
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, s := range info.Settings {
		got[s.Key] = s.Value
	}
	if !slices.Contains(strings.Split(got["-tags"], ","), "lambda.norpc") {
		t.Errorf("tags %q: the RPC mode is in it", got["-tags"])
	}
	for key, want := range map[string]string{"GOOS": "linux", "GOARCH": arch, "CGO_ENABLED": "0", "-trimpath": "true"} {
		if got[key] != want {
			t.Errorf("%s is %q, want %q", key, got[key], want)
		}
	}
}

// The same source makes the same bytes, wherever they are written: a deployment without a change uploads nothing.
func TestBuildsAreReproducible(t *testing.T) {
	for _, name := range functions(t) {
		var digests [2][sha256.Size]byte
		for i := range digests {
			file := filepath.Join(t.TempDir(), "elsewhere", name)
			if err := build(name, "linux", "arm64", "", file); err != nil {
				t.Fatal(err)
			}
			digests[i] = digest(t, file)
		}
		if digests[0] != digests[1] {
			t.Errorf("%s: %x, then %x", name, digests[0], digests[1])
		}
	}
}

func digest(t *testing.T, file string) [sha256.Size]byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(data)
}
