package images

import (
	"errors"
	"strings"
)

// Bounds on YAML that a person hands in: a list of hosts and a network
// configuration are five levels deep.
const (
	maxDepth  = 32
	maxDashes = 16
)

// CheckYAML refuses the nesting that would keep the parser busy for minutes,
// or overflow its stack, before the parser sees it. Brackets in texts count:
// nobody writes that many.
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
				return errors.New("it is nested too deeply")
			}
		}
		if start := strings.TrimLeft(line, "- "); strings.Count(line[:len(line)-len(start)], "-") > maxDashes {
			return errors.New("it is nested too deeply")
		}
	}
	return nil
}
