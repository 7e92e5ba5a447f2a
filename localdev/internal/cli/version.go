package cli

import (
	"runtime/debug"
	"strings"
)

// version tells which code this is, as the build has noted it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "tidemark (unknown build)"
	}
	words := []string{"tidemark", info.Main.Version}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			words = append(words, s.Value[:min(12, len(s.Value))])
		case s.Key == "vcs.modified" && s.Value == "true":
			words = append(words, "modified")
		}
	}
	return strings.Join(append(words, info.GoVersion), " ")
}
