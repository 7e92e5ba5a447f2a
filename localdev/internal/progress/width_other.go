//go:build !unix

package progress

import "io"

// Width returns 0: status lines are not written in place here.
func Width(io.Writer) int { return 0 }
