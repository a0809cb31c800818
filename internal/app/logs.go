package app

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/report"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/units"
)

// LogFile is one file of a bug report. Its secrets are masked.
type LogFile struct {
	Name string
	Text string
}

// Diagnostic is a command whose output becomes a file of a bug report.
type Diagnostic struct {
	Name    string
	Command host.Command
}

// Diagnostics is what a bug report contains besides firstboot's own files.
type Diagnostics struct {
	Files    []string // paths on the machine
	Commands []Diagnostic
}

// journalTimeout limits journalctl, which may read the journals of many boots.
const journalTimeout = time.Minute

// BootLog returns what firstboot printed at every boot, from systemd's journal.
func BootLog(ctx context.Context, o Options) (string, error) {
	m, err := open(o)
	if err != nil {
		return "", err
	}
	mask, err := m.logMask(ctx)
	if err != nil {
		return "", engine.WithHint(fmt.Errorf("cannot mask the secrets in the logs: %w", err), "journalctl --unit %s shows them unmasked", units.Service)
	}
	return mask.Text(m.bootLog(ctx)), nil
}

func (m *machine) bootLog(ctx context.Context) string {
	return m.runDiagnostic(ctx, Diagnostic{Command: host.Command{
		Name: "journalctl", Timeout: journalTimeout,
		Args: []string{"--no-pager", "--quiet", "--output=short-iso", "--lines=5000", "--unit=" + units.Service},
	}})
}

// CollectLogs returns the files of a bug report: firstboot's output, status and
// state files, the configuration, and the diagnostics. The text of a file that
// cannot be read is the error. If the secrets are not known, because the
// configuration is damaged, every text is omitted except that of config.yaml,
// which states why.
func CollectLogs(ctx context.Context, o Options, diagnostics Diagnostics) ([]LogFile, error) {
	m, err := open(o)
	if err != nil {
		return nil, err
	}
	files := []LogFile{{"firstboot.log", m.bootLog(ctx)}, {"status.json", m.statusText(ctx)}}
	own := []string{state.JournalPath, state.ProgressPath, state.MarkerPath, state.RetiredPath, state.LeftPath, state.ManifestPath}
	for _, path := range append(own, diagnostics.Files...) {
		data, err := m.state.ReadFile(path)
		if host.NotExist(err) {
			continue
		}
		text := string(data)
		switch {
		case err != nil:
			text = err.Error() + "\n"
		case strings.HasSuffix(path, ".json") && !slices.Contains(own, path):
			text = redactJSON(data)
		}
		files = append(files, LogFile{"files" + path, text})
	}
	files = append(files, m.runDiagnostics(ctx, diagnostics.Commands)...)
	mask, why := m.logMask(ctx)
	for i := range files {
		files[i].Text = mask.Text(files[i].Text)
	}
	configuration := LogFile{"config.yaml", m.configText(ctx)}
	if why != nil {
		configuration.Text = why.Error() + "\n"
	}
	return append(files, configuration), ctx.Err()
}

// runDiagnostics runs the commands in parallel: some may only end by a timeout.
func (m *machine) runDiagnostics(ctx context.Context, diagnostics []Diagnostic) []LogFile {
	files := make([]LogFile, len(diagnostics))
	var wg sync.WaitGroup
	for i, d := range diagnostics {
		wg.Go(func() { files[i] = LogFile{d.Name, m.runDiagnostic(ctx, d)} })
	}
	wg.Wait()
	return files
}

func (m *machine) runDiagnostic(ctx context.Context, d Diagnostic) string {
	out, err := m.openHost().Query(ctx, d.Command)
	text := string(out.Stdout) + string(out.Stderr)
	if err != nil {
		text += fmt.Sprintf("firstboot: %s: %v\n", d.Command, err)
	}
	return text
}

func (m *machine) statusText(ctx context.Context) string {
	status, err := Status(ctx, m.Options)
	if err != nil {
		return err.Error() + "\n"
	}
	data, err := report.Document(status)
	if err != nil {
		return err.Error() + "\n"
	}
	return string(data)
}

func (m *machine) configText(ctx context.Context) string {
	loaded, err := m.effective(ctx, false)
	if err != nil {
		return err.Error() + "\n"
	}
	return string(loaded.YAML())
}
