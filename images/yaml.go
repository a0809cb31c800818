package images

import (
	"errors"
	"strings"
)

// Limits on the nesting of YAML input. A list of hosts and a network
// configuration are five levels deep.
const (
	maxDepth  = 32
	maxDashes = 16
)

// CheckYAML reports an error if data is nested so deeply that the parser would
// take minutes or overflow its stack. Brackets inside strings count too; real
// input does not contain that many.
func CheckYAML(data []byte) error {
	depth := 0
	for line := range strings.Lines(string(data)) {
		for _, r := range line {
			switch r {
			case '[', '{':
				depth++
			case ']', '}':
				depth = max(0, depth-1)
			}
			if depth > maxDepth {
				return errors.New("nested too deeply")
			}
		}
		if start := strings.TrimLeft(line, "- "); strings.Count(line[:len(line)-len(start)], "-") > maxDashes {
			return errors.New("nested too deeply")
		}
	}
	return nil
}
