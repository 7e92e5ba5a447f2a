package arch_test

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	// longestFile is where a file is refused; it should end well before, at about 500 lines.
	longestFile = 600
	// longestMain keeps bootstraps to wiring.
	longestMain = 60
)

// lines counts as an editor does.
func lines(text string) int {
	return strings.Count(strings.TrimSuffix(text, "\n"), "\n") + 1
}

func TestFilesStayReadable(t *testing.T) {
	generated := regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)
	for _, s := range sources(t) {
		if n := lines(s.text); !s.test && n > longestFile && !generated.MatchString(s.text) {
			t.Errorf("%s has %d lines, more than %d: split it by concept", s.name, n, longestFile)
		}
		if path.Base(s.dir) == "bootstrap" && path.Base(s.name) == "main.go" {
			if n := lines(s.text); n > longestMain {
				t.Errorf("%s has %d lines, more than %d: main wires and nothing else", s.name, n, longestMain)
			}
		}
	}
}

// A name that says nothing attracts everything.
func TestPackageNamesSayWhatIsInside(t *testing.T) {
	empty := []string{"utils", "util", "common", "types", "errors", "config", "helpers", "helper", "misc", "shared", "base"}
	for _, s := range sources(t) {
		if slices.Contains(empty, path.Base(s.dir)) || slices.Contains(empty, s.file.Name.Name) {
			t.Errorf("%s: package %s in folder %s", s.name, s.file.Name.Name, s.dir)
		}
	}
}

// The repository speaks of itself alone, and is finished where it speaks.
func TestNoUnfinishedWorkAndNoForeignPlaces(t *testing.T) {
	// In pieces, so that this file does not match itself.
	words := regexp.MustCompile(strings.Join([]string{
		`\bTO` + `DO\b`, `\bFIX` + `ME\b`, `\bXX` + `X\b`, // unfinished
		`(^|[^\w/.-])/wor` + `k/`, `\.\./sha` + `red\b`, // places on somebody's machine
		`proxy\.golan` + `g\.org`, `repo1?\.maven\.(apache\.)?o` + `rg`, `registry\.npmj` + `s\.org`, `deb\.debia` + `n\.org`, `pypi\.o` + `rg`, // hosts that a client knows by itself
	}, "|"))
	binary := []string{".png", ".gif", ".ico", ".zip", ".gz", ".lz4", ".woff2", ".bin", ".db"}
	names := files(t, func(name string) bool {
		return path.Base(name) != "go.sum" && !slices.Contains(binary, path.Ext(name)) && !strings.Contains(name, "testdata/fuzz/")
	})
	for _, name := range names {
		for i, line := range strings.Split(read(t, name), "\n") {
			if found := words.FindString(line); found != "" {
				t.Errorf("%s:%d: %q", name, i+1, found)
			}
		}
	}
}
