package config

import (
	"fmt"
	"slices"
	"strings"
)

// Problem is one problem of a configuration. Line and Col count from 1; Col is
// in characters. The texts contain no secret and no excerpt of a source.
type Problem struct {
	File    string // path, "kernel command line", "credential firstboot.config" …
	Line    int    // 0: the source has no lines
	Col     int
	Path    string // the key: "pool.cidr"
	Message string
	Hint    string // how to fix it; may be empty
}

// Error returns FILE:LINE:COL: PATH: MESSAGE (HINT).
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Col)
	}
	b.WriteString(": ")
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	if p.Hint != "" {
		b.WriteString(" (" + p.Hint + ")")
	}
	return b.String()
}

// Problems are the problems of a configuration, in the order of its sources.
type Problems []Problem

// Error returns one line per problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// sorted returns the problems ordered by source, as listed, then by position.
func (ps Problems) sorted(sources []string) Problems {
	rank := func(p Problem) int { return slices.Index(sources, p.File) }
	slices.SortStableFunc(ps, func(a, b Problem) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		if d := a.Line - b.Line; d != 0 {
			return d
		}
		return a.Col - b.Col
	})
	return ps
}

// maxProblems limits the problems that are reported. A source with more is
// probably not a configuration.
const maxProblems = 100

// truncated returns the first problems and the number of the others.
func (ps Problems) truncated() Problems {
	if len(ps) <= maxProblems {
		return ps
	}
	last := ps[maxProblems]
	last.Path, last.Message, last.Hint = "", fmt.Sprintf("and %d more", len(ps)-maxProblems), ""
	return append(ps[:maxProblems:maxProblems], last)
}
