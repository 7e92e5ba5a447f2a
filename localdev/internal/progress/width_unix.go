//go:build unix

package progress

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Width returns the columns of the terminal that w writes to, or 0 if it is none.
func Width(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	if size.Col == 0 {
		return 80 // a terminal that does not tell
	}
	return int(size.Col)
}
