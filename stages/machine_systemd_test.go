package stages_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/units"
)

// fakeSystemd is the part of systemd that the stages use. It reads unit files and
// drop-ins below the machine's root when they are first needed and at a
// daemon-reload, and starts and stops programs.
type fakeSystemd struct {
	root     string
	mu       sync.Mutex
	units    map[string]*unit
	reloads  int
	blind    bool // it does not see changed files, because the clock was set back
	outdated bool // a unit was enabled or disabled after the last reload
	programs map[string]program
}

// program is what a unit runs. Its argument unit is the text of the unit file and
// drop-ins, as systemd has read them.
type program struct {
	start func(unit string) error
	stop  func()
	load  func() error // ExecReload=; nil: the unit cannot be reloaded
}

type unit struct {
	active  string
	masked  bool
	enabled bool
	wanted  bool // enabled when systemd last read the unit files
	since   time.Time
	read    string // the text that systemd has read
	starts  int
	slow    int // so many queries report activating before active
	refuses int // so many restarts fail before they change anything
	breaks  int // so many restarts stop the unit and fail
}

func (s *fakeSystemd) unit(name string) *unit {
	u := s.units[name]
	if u == nil {
		u = &unit{active: "inactive"}
		s.units[name] = u
	}
	if u.read == "" {
		u.read = s.onDisk(name)
	}
	return u
}

// onDisk returns the text of a unit's file and drop-ins, "" without a file.
func (s *fakeSystemd) onDisk(name string) string {
	var text string
	for _, dir := range []string{units.AdminDir, units.Dir} {
		if data, err := os.ReadFile(filepath.Join(s.root, dir, name)); err == nil {
			text = string(data)
			break
		}
	}
	if text == "" {
		return ""
	}
	dropIns, _ := filepath.Glob(filepath.Join(s.root, units.AdminDir, name+".d/*.conf"))
	for _, path := range dropIns {
		data, _ := os.ReadFile(path)
		text += "\n" + string(data)
	}
	return text
}

func (s *fakeSystemd) state(name string) (host.UnitState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.unit(name)
	state := host.UnitState{Load: "loaded", Active: u.active, Since: u.since.Truncate(time.Microsecond), NeedsReload: u.read != s.onDisk(name) && !s.blind || s.outdated}
	switch {
	case u.masked:
		state.Load, state.FileState = "masked", "masked"
	case u.read == "":
		state.Load = "not-found"
	case u.enabled:
		state.FileState = "enabled"
	default:
		state.FileState = "disabled"
	}
	if u.active == "active" && u.slow > 0 {
		u.slow--
		state.Active = "activating"
	}
	return state, nil
}

func (s *fakeSystemd) property(name, property string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	value := ""
	for line := range strings.Lines(s.unit(name).read) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), property+"="); ok {
			value = v
		}
	}
	return value
}

func (s *fakeSystemd) job(verb, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if verb == "daemon-reload" {
		s.reloads++
		s.reread()
		return nil
	}
	u := s.unit(name)
	if u.masked || u.read == "" {
		return fmt.Errorf("Unit %s not found or masked", name)
	}
	switch verb {
	case "enable", "disable":
		s.outdated = s.outdated || u.enabled != (verb == "enable") // as systemd 255 does
		u.enabled = verb == "enable"
	case "start":
		s.begin(name, u)
		for other, wanted := range s.units {
			if wanted.wanted && strings.Contains(wanted.read, "WantedBy="+name+"\n") {
				s.begin(other, wanted)
			}
		}
	case "stop":
		s.end(name, u)
	case "restart":
		if u.refuses > 0 {
			u.refuses--
			return fmt.Errorf("Failed to restart %s: Connection timed out", name)
		}
		if u.breaks > 0 {
			u.breaks--
			s.end(name, u)
			return fmt.Errorf("Job for %s failed", name)
		}
		again := s.runningParts(name)
		s.end(name, u)
		s.begin(name, u)
		for _, part := range again {
			s.begin(part, s.unit(part))
		}
	case "reload":
		if s.programs[name].load == nil || u.active != "active" {
			return fmt.Errorf("Job type reload is not applicable for unit %s", name)
		}
		return s.programs[name].load()
	default:
		return errors.New("no such verb: " + verb)
	}
	return nil
}

// disable does what systemctl disable does.
func (s *fakeSystemd) disable(name string) {
	for _, verb := range []string{"disable", "daemon-reload"} {
		_ = s.job(verb, name) // a unit that does not exist stays as it is
	}
}

func (s *fakeSystemd) reread() {
	s.outdated = false
	for name, u := range s.units {
		u.read, u.wanted = s.onDisk(name), u.enabled
	}
}

// runningParts lists the running units that have PartOf= with this unit.
func (s *fakeSystemd) runningParts(name string) []string {
	var list []string
	for part, u := range s.units {
		if u.active == "active" && strings.Contains(u.read, "PartOf="+name) {
			list = append(list, part)
		}
	}
	return list
}

func (s *fakeSystemd) begin(name string, u *unit) {
	if u.active == "active" {
		return
	}
	u.starts++
	if start := s.programs[name].start; start != nil {
		if err := start(u.read); err != nil {
			u.active = "failed"
			return
		}
	}
	u.active, u.since = "active", time.Now()
}

// startedEarlier sets a running unit's start back by a minute. The kernel's clock
// for files may be a tick behind, so that a file written right after the start
// would look older than the start.
func (s *fakeSystemd) startedEarlier(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unit(name).since = time.Now().Add(-time.Minute)
}

func (s *fakeSystemd) end(name string, u *unit) {
	for _, part := range s.runningParts(name) {
		s.end(part, s.unit(part))
	}
	if u.active != "active" {
		return
	}
	u.active = "inactive"
	if stop := s.programs[name].stop; stop != nil {
		stop()
	}
}

// execStart splits a unit's ExecStart= into words by the rules of
// systemd.service(5).
func execStart(unit string) []string {
	for line := range strings.Lines(unit) {
		if command, ok := strings.CutPrefix(line, "ExecStart="); ok {
			return splitWords(strings.TrimSpace(command))
		}
	}
	return nil
}

func splitWords(command string) []string {
	var words []string
	var word strings.Builder
	quoted, escaped, inside := false, false, false
	for _, r := range command {
		switch {
		case escaped:
			word.WriteString(map[rune]string{'n': "\n", 't': "\t"}[r])
			if r != 'n' && r != 't' {
				word.WriteRune(r)
			}
			escaped = false
		case r == '\\':
			escaped, inside = true, true
		case r == '"':
			quoted, inside = !quoted, true
		case r == ' ' && !quoted:
			if inside {
				words = append(words, word.String())
			}
			word.Reset()
			inside = false
		default:
			word.WriteRune(r)
			inside = true
		}
	}
	if inside {
		words = append(words, word.String())
	}
	for i, w := range words {
		words[i] = strings.NewReplacer("%%", "%", "$$", "$").Replace(w)
	}
	return words
}
