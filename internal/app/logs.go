package app

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/units"
)

// LogFile is one file of a bug report, secrets masked.
type LogFile struct {
	Name string
	Text string
}

// Diagnostic asks the machine for one more file of a bug report.
type Diagnostic struct {
	Name    string
	Command host.Command
}

// Diagnostics is what a bug report holds beside firstboot's own story.
type Diagnostics struct {
	Files    []string // of the machine
	Commands []Diagnostic
}

// journalTime bounds the reading of the journal of many boots.
const journalTime = time.Minute

// History is what firstboot itself said, at every boot, out of systemd's journal.
func BootLog(ctx context.Context, o Options) (string, error) {
	s, err := open(o)
	if err != nil {
		return "", err
	}
	story := s.look(ctx, Diagnostic{Command: host.Command{
		Name: "journalctl", Timeout: journalTime,
		Args: []string{"--no-pager", "--quiet", "--output=short-iso", "--lines=5000", "--unit=" + units.Service},
	}})
	return s.logMask().replacer.Replace(story), nil
}

// Logs is everything that a bug report needs: the story, status, state files,
// the configuration, and diagnostics. What cannot be had says why instead.
func CollectLogs(ctx context.Context, o Options, diagnostics Diagnostics) ([]LogFile, error) {
	s, err := open(o)
	if err != nil {
		return nil, err
	}
	story, err := BootLog(ctx, o)
	if err != nil {
		return nil, err
	}
	files := []LogFile{{"story.txt", story}, {"status.json", s.statusText(ctx)}, {"config.yaml", s.configText(ctx)}}
	own := []string{state.JournalPath, state.MarkerPath, state.RetiredPath, state.ManifestPath}
	for _, path := range append(own, diagnostics.Files...) {
		data, err := s.state.ReadFile(path)
		if host.NotExist(err) {
			continue
		}
		text := string(data)
		if err != nil {
			text = err.Error() + "\n"
		}
		files = append(files, LogFile{"files" + path, text})
	}
	files = append(files, s.lookAll(ctx, diagnostics.Commands)...)
	m := s.logMask()
	for i := range files {
		files[i].Text = m.replacer.Replace(files[i].Text)
	}
	return files, ctx.Err()
}

// lookAll asks side by side: some of what is asked may be out of reach.
func (s *site) lookAll(ctx context.Context, looks []Diagnostic) []LogFile {
	files := make([]LogFile, len(looks))
	var wg sync.WaitGroup
	for i, l := range looks {
		wg.Go(func() { files[i] = LogFile{l.Name, s.look(ctx, l)} })
	}
	wg.Wait()
	return files
}

func (s *site) look(ctx context.Context, l Diagnostic) string {
	out, err := s.host().Query(ctx, l.Command)
	text := string(out.Stdout) + string(out.Stderr)
	if err != nil {
		text += fmt.Sprintf("firstboot: %s: %v\n", l.Command, err)
	}
	return text
}

func (s *site) statusText(ctx context.Context) string {
	status, err := Status(ctx, s.Options)
	if err != nil {
		return err.Error() + "\n"
	}
	data, err := json.MarshalIndent(status, "", "  ")
	if err != nil {
		return err.Error() + "\n"
	}
	return string(data) + "\n"
}

func (s *site) configText(ctx context.Context) string {
	loaded, err := s.effective(ctx, false)
	if err != nil {
		return err.Error() + "\n"
	}
	return string(loaded.YAML())
}

// logMask masks the secrets of the configuration; where there is none there
// are no secrets.
func (s *site) logMask() mask {
	loaded, err := s.effective(context.Background(), false)
	if err != nil {
		return mask{strings.NewReplacer()}
	}
	return newMask(s.state, loaded.Config)
}
