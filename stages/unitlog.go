package stages

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/text"
)

const (
	unitLogLines   = 2                // error lines that are shown
	unitLogTimeout = 10 * time.Second // of journalctl
)

// errorWords mark the lines that state why a program failed.
var errorWords = regexp.MustCompile(`(?i)\b(fail(ed|ure)?|error|fatal|cannot|can't|unable|panic|invalid|refused)\b`)

// unitState describes a unit that does not run: its state and, if it failed, the
// last error lines that its program printed in this boot.
func (e *Env) unitState(ctx context.Context, name string, unit host.UnitState) string {
	if unit.Active != "failed" && (unit.Active != "activating" || unit.Result == "success" || unit.Result == "") {
		return unit.Active
	}
	out, err := e.Host.Query(ctx, host.Command{
		Name: "journalctl", Timeout: unitLogTimeout,
		Args: []string{"--no-pager", "--quiet", "--boot", "--output=cat", "--lines=50", "--unit=" + name},
	})
	lines := errorLines(string(out.Stdout), name)
	if err != nil || len(lines) == 0 {
		return unit.Active
	}
	return unit.Active + ": " + strings.Join(lines, "; ")
}

// errorLines returns the last different error lines of a unit's log, without
// those of systemd itself: they only state that the unit failed.
func errorLines(log, unit string) []string {
	var lines []string
	all := strings.Split(log, "\n")
	for i := len(all) - 1; i >= 0 && len(lines) < unitLogLines; i-- {
		line := text.Line(all[i])
		bySystemd := strings.HasPrefix(line, unit+": ") || strings.HasPrefix(line, "Failed to start ")
		if errorWords.MatchString(line) && !bySystemd && !slices.Contains(lines, line) {
			lines = slices.Insert(lines, 0, line)
		}
	}
	return lines
}
