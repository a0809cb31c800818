package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/report"
)

// hint adds to err what a person can do about it.
func hint(err error, format string, args ...any) error { return engine.WithHint(err, format, args...) }

// print writes one JSON document.
func (c *cli) print(v any) error {
	data, err := jsonText(v)
	if err != nil {
		return err
	}
	_, err = c.out.Write(data)
	return err
}

// jsonText is one JSON document.
func jsonText(v any) ([]byte, error) {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("cannot write JSON: %w", err)
	}
	return append(data, '\n'), nil
}

// failure is an error as JSON.
type failure struct {
	Error    string    `json:"error"`
	Hint     string    `json:"hint,omitempty"`
	Code     int       `json:"exit_code"`
	Problems []problem `json:"problems,omitempty"`
}

// problem is one mistake in a configuration as JSON.
type problem struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Key     string `json:"key,omitempty"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

func problemsOf(err error) []problem {
	found, _ := config.IsInvalid(err)
	all := []problem{}
	for _, p := range found {
		all = append(all, problem{p.File, p.Line, p.Col, p.Path, p.Message, p.Hint})
	}
	return all
}

// tell says on stderr, or as JSON on stdout, what err is; a *StateError was
// told already.
func (c *cli) tell(err error) {
	var told *app.ReportedError
	if err == nil || errors.As(err, &told) {
		return
	}
	if c.json() {
		// An output that cannot be written leaves the exit code.
		_ = c.print(failure{err.Error(), engine.Hint(err), app.ExitCode(err), problemsOf(err)})
		return
	}
	if _, invalid := config.IsInvalid(err); invalid {
		// FILE:LINE:COL first, as editors want it.
		fmt.Fprintln(c.errs, err)
		return
	}
	for i, line := range report.Explain(err) {
		if i == 0 {
			line = "error: " + line
		}
		fmt.Fprintln(c.errs, "firstboot: "+line)
	}
}

// end turns an exit code into an error that was told already.
func end(code int) error {
	if code == app.ExitDone {
		return nil
	}
	return &app.ReportedError{Code: code}
}
