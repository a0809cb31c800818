package main

import (
	"bufio"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// interactive reports whether a person can answer a prompt: standard input and
// stderr are terminals.
func (c *cli) interactive() bool {
	errs, ok := c.errs.(*os.File)
	return ok && isTerminal(os.Stdin) && isTerminal(errs)
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) } //nolint:gosec // descriptors are small

// confirm prints a question and reports whether the answer is yes. An empty or
// missing answer means no.
func confirm(in io.Reader, out io.Writer, question string) bool {
	fmt.Fprintf(out, "%s [y/N] ", question)
	answer, _ := bufio.NewReader(io.LimitReader(in, 100)).ReadString('\n')
	return answer == "y\n" || answer == "yes\n"
}
