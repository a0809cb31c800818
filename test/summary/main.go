// Command summary reads the output of `go test -json` and prints what people
// need of it: a line for each package, the whole output of each test that
// failed, and each skipped test with its reason. It exits with 1 if a test
// failed.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	failed, err := summarise(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot read the output of go test:", err)
		os.Exit(2)
	}
	if failed > 0 {
		os.Exit(1)
	}
}

// event is one line of go test -json; see `go doc test2json`.
type event struct {
	Action, Package, Test, Output, ImportPath string
	Elapsed                                   float64
}

// summarise prints the summary and returns how many tests and packages failed.
func summarise(r io.Reader, w io.Writer) (failed int, err error) {
	output := map[string]*strings.Builder{} // by package and test
	var skipped []string
	passed := 0
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) != nil {
				fmt.Fprint(w, line) // the go command's own words
				continue
			}
			key := e.Package + e.ImportPath + " " + e.Test
			switch e.Action {
			case "output", "build-output":
				if output[key] == nil {
					output[key] = &strings.Builder{}
				}
				output[key].WriteString(e.Output)
			case "fail", "build-fail":
				failed++
				fmt.Fprintf(w, "FAIL  %s\n%s", strings.TrimSpace(key), text(output[key]))
			case "skip":
				if e.Test != "" {
					skipped = append(skipped, fmt.Sprintf("skipped: %s: %s", e.Test, reason(text(output[key]))))
				}
			case "pass":
				if e.Test == "" {
					fmt.Fprintf(w, "ok    %s  %.1fs\n", e.Package, e.Elapsed)
				} else {
					passed++
				}
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return failed, err
		}
	}
	for _, s := range skipped {
		fmt.Fprintln(w, s)
	}
	fmt.Fprintf(w, "%d passed, %d failed, %d skipped\n", passed, failed, len(skipped))
	return failed, nil
}

func text(b *strings.Builder) string {
	if b == nil {
		return ""
	}
	return b.String()
}

// reason is why a test was skipped: the line that t.Skip printed.
func reason(output string) string {
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if _, why, ok := strings.Cut(line, ".go:"); ok {
			_, why, _ = strings.Cut(why, ": ")
			return why
		}
	}
	return "no reason given"
}
