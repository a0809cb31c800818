package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/report"
)

// hint adds to err how a person can fix it.
func hint(err error, format string, args ...any) error { return engine.WithHint(err, format, args...) }

// withPermissionHint adds a hint to an error that is due to missing permissions.
func withPermissionHint(err error, text string) error {
	if errors.Is(err, fs.ErrPermission) {
		return hint(err, "%s", text)
	}
	return err
}

// printJSON writes one JSON document.
func (c *cli) printJSON(v any) error {
	data, err := report.Document(v)
	if err != nil {
		return err
	}
	_, err = c.out.Write(data)
	return err
}

// errorJSON is an error as JSON.
type errorJSON struct {
	Error    string        `json:"error"`
	Hint     string        `json:"hint,omitempty"`
	Code     int           `json:"exit_code"`
	Problems []problemJSON `json:"problems,omitempty"`
}

// problemJSON is one error in a configuration as JSON.
type problemJSON struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Key     string `json:"key,omitempty"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

func problemsOf(err error) []problemJSON {
	found, _ := config.IsInvalid(err)
	all := []problemJSON{}
	for _, p := range found {
		all = append(all, problemJSON{p.File, p.Line, p.Col, p.Path, p.Message, p.Hint})
	}
	return all
}

// printError writes err to stderr, or as JSON to stdout. An
// *app.ReportedError has been printed before.
func (c *cli) printError(err error) {
	var reported *app.ReportedError
	if err == nil || errors.As(err, &reported) || isOutputError(err) {
		return
	}
	if c.json() {
		// The exit code reports the failure even if this cannot be written.
		_ = c.printJSON(errorJSON{err.Error(), engine.Hint(err), app.ExitCode(err), problemsOf(err)})
		return
	}
	if _, invalid := config.IsInvalid(err); invalid {
		// Editors expect lines that begin with FILE:LINE:COL.
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

// exitWith returns an exit code as an error that has been printed before.
func exitWith(code int) error {
	if code == app.ExitDone {
		return nil
	}
	return &app.ReportedError{Code: code}
}
