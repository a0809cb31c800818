package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
)

const validConfig = `etcd:
  endpoints: ["http://10.0.0.1:2379"]
pool:
  cidr: 10.213.0.0/16
`

// machine is a root directory with stages that work on real files in it.
type machine struct {
	t       *testing.T
	root    string
	h       *host.Host
	out     bytes.Buffer
	errs    bytes.Buffer
	stages  []*fileStage
	steps   atomic.Int64 // file operations
	onStep  func(op, target string)
	force   bool
	only    []string
	ctx     context.Context
	files   []string
	cmdline string
	events  func(engine.Event)
	notes   app.Notes // of the last build
	version string
	leaving map[string]func(ctx context.Context) error // replaces what a step of leave does
	web     http.RoundTripper
	record  host.Option   // records the file operations, if not nil
	systemd *unitRecorder // nil: none
}

// newMachine returns a machine with the stages first, second and third, each
// after the one before.
func newMachine(t *testing.T) *machine {
	m := newMachineAt(t.TempDir())
	m.t, m.ctx = t, t.Context()
	m.writeFile("/etc/machine-id", "aaaa\n")
	m.writeFile("/proc/sys/kernel/random/boot_id", "boot1\n")
	m.writeFile("/etc/firstboot/config.yaml", validConfig)
	return m
}

func newMachineAt(root string) *machine {
	m := &machine{root: root, version: "v1.0.0", leaving: map[string]func(context.Context) error{}, h: host.New(root), ctx: context.Background()}
	m.stages = []*fileStage{{name: "first"}, {name: "second", after: []string{"first"}}, {name: "third", after: []string{"second"}}}
	return m
}

// fileStage is done if its file contains the wanted text.
type fileStage struct {
	name   string
	after  []string
	h      *host.Host
	want   string
	check  func() error
	apply  func(ctx context.Context) error
	probe  func() error
	checks atomic.Int64
}

func (s *fileStage) Name() string    { return s.name }
func (s *fileStage) After() []string { return s.after }
func (s *fileStage) path() string    { return "/etc/" + s.name }

func (s *fileStage) Check(context.Context) (engine.CheckResult, error) {
	s.checks.Add(1)
	var result engine.CheckResult
	if s.check != nil {
		if err := s.check(); err != nil {
			return result, err
		}
	}
	data, err := s.h.ReadFile(s.path())
	if err != nil || string(data) != s.want {
		result.Add(engine.Difference{Object: s.path(), Actual: "other text", Expected: s.want, Diff: "-a\n+b\n"})
	}
	return result, nil
}

func (s *fileStage) Apply(ctx context.Context, _ engine.Progress) error {
	if s.apply != nil {
		if err := s.apply(ctx); err != nil {
			return err
		}
	}
	return s.h.WriteFile(s.path(), []byte(s.want), 0o644)
}

func (s *fileStage) Probe(context.Context) error {
	if s.probe == nil {
		return nil
	}
	return s.probe()
}

// build makes the pool's CIDR the wanted text of every stage.
func (m *machine) build(p app.BuildOptions) (app.StageSet, error) {
	var set app.StageSet
	for _, s := range m.stages {
		s.h = p.Host
		if p.Config != nil {
			s.want = p.Config.Pool.CIDR.String()
		}
		set.Stages = append(set.Stages, s)
	}
	m.notes = p.Notes
	set.Leave = func(force bool) []engine.Stage {
		return []engine.Stage{
			&removal{m: m, name: "containers", h: p.Host, path: container, refuses: !force},
			&removal{m: m, name: "autostart", after: "containers", h: p.Host, path: serviceLink},
			&removal{m: m, name: "node", after: "autostart", h: p.Host, path: "/etc/third"},
		}
	}
	return set, nil
}

// container is the file of a container that uses the network. serviceLink enables
// the service.
const (
	container   = "/run/container"
	serviceLink = "/etc/systemd/system/multi-user.target.wants/firstboot.service"
)

// removal is a step of leave. It is done if its file does not exist.
type removal struct {
	m           *machine
	name, after string
	h           *host.Host
	path        string
	refuses     bool
}

func (s *removal) Name() string { return s.name }

func (s *removal) After() []string {
	if s.after == "" {
		return nil
	}
	return []string{s.after}
}

func (s *removal) Check(ctx context.Context) (engine.CheckResult, error) {
	var result engine.CheckResult
	if check := s.m.leaving["check"]; check != nil && s.name == "autostart" {
		return result, check(ctx)
	}
	if s.h.Exists(s.path) {
		result.Add(engine.Difference{Object: s.path, Actual: "present", Expected: "removed"})
	}
	return result, nil
}

func (s *removal) Apply(ctx context.Context, _ engine.Progress) error {
	if s.refuses {
		return &engine.Refusal{Findings: []engine.Difference{{Name: "container-on-network", Object: s.path, Actual: "present"}}}
	}
	if replaced := s.m.leaving[s.name]; replaced != nil {
		if err := replaced(ctx); err != nil {
			return err
		}
	}
	return s.h.Remove(s.path)
}

// leave leaves the network and returns the exit code.
func (m *machine) leave() int {
	m.t.Helper()
	m.out.Reset()
	m.errs.Reset()
	return m.exitCode(app.Leave(m.ctx, app.RunOptions{Options: m.options(), Force: m.force, Out: &m.out, Err: &m.errs, Engine: m.engine()}))
}

// leaves leaves and checks the exit code and words of the output.
func (m *machine) leaves(code int, words ...string) {
	m.t.Helper()
	got := m.leave()
	m.wantOutput(got, code, words)
}

// boots makes the run that systemd starts at boot, with another boot ID.
func (m *machine) boots(code int, words ...string) {
	m.t.Helper()
	m.writeFile("/proc/self/cgroup", "0::/system.slice/firstboot.service\n")
	defer m.writeFile("/proc/self/cgroup", "0::/user.slice/user-0.slice/session-1.scope\n")
	m.runs(code, words...)
}

func (m *machine) options() app.Options {
	record := m.record
	if record == nil {
		record = func(*host.Host) {}
	}
	o := app.Options{Root: m.root, Files: m.files, Cmdline: m.cmdline, Version: m.version, Build: m.build, Transport: m.web, Host: []host.Option{
		record,
		host.WithStep(func(op, target string) {
			m.steps.Add(1)
			if m.onStep != nil {
				m.onStep(op, target)
			}
		}),
	}}
	if m.systemd != nil {
		o.Host = append(o.Host, host.WithSystemd(m.systemd))
	}
	return o
}

// run makes a run and returns its exit code.
func (m *machine) run() int {
	m.t.Helper()
	m.out.Reset()
	m.errs.Reset()
	return m.exitCode(app.Run(m.ctx, app.RunOptions{
		Options: m.options(), Force: m.force, Stages: m.only, Out: &m.out, Err: &m.errs, Engine: m.engine(),
	}))
}

func (m *machine) engine() engine.Options {
	return engine.Options{MinBackOff: time.Millisecond, MaxBackOff: 2 * time.Millisecond, Attempts: 2, Events: m.events}
}

// exitCode prints an error that was not reported, and returns its exit code.
func (m *machine) exitCode(err error) int {
	var reported *app.ReportedError
	if err != nil && !errors.As(err, &reported) {
		fmt.Fprintln(&m.errs, err, engine.Hint(err))
	}
	return app.ExitCode(err)
}

// runs makes a run and checks its exit code and words of its output.
func (m *machine) runs(code int, words ...string) {
	m.t.Helper()
	got := m.run()
	m.wantOutput(got, code, words)
}

func (m *machine) wantOutput(got, code int, words []string) {
	m.t.Helper()
	if got != code {
		m.t.Fatalf("exit code %d, want %d\n%s%s", got, code, &m.out, &m.errs)
	}
	for _, w := range words {
		if !strings.Contains(m.out.String()+m.errs.String(), w) {
			m.t.Errorf("the output does not contain %q:\n%s%s", w, &m.out, &m.errs)
		}
	}
}

// is checks the status: its state and words of it.
func (m *machine) is(st state.State, words ...string) {
	m.t.Helper()
	s, err := app.Status(m.ctx, m.options())
	if err != nil {
		m.t.Fatal(err)
	}
	text := fmt.Sprintf("%+v", s)
	if s.State != st {
		m.t.Errorf("status is %s, want %s: %s", s.State, st, text)
	}
	for _, w := range words {
		if !strings.Contains(text, w) {
			m.t.Errorf("the status does not contain %q: %s", w, text)
		}
	}
}

func (m *machine) writeFile(path, text string) {
	m.t.Helper()
	if err := m.h.WriteFile(path, []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// writeJSON writes a state file of this schema. The product has no function to
// write any state that it wants.
func (m *machine) writeJSON(path string, v any) {
	m.t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		m.t.Fatal(err)
	}
	m.writeFile(path, string(data))
}

func (m *machine) readFile(path string) string {
	m.t.Helper()
	data, err := m.h.ReadFile(path)
	if err != nil {
		m.t.Fatal(err)
	}
	return string(data)
}

// tree returns the text of every file below the root, without those whose path
// starts with one of ignore.
func (m *machine) tree(ignore ...string) map[string]string {
	m.t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(m.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name := strings.TrimPrefix(path, m.root)
		for _, prefix := range ignore {
			if strings.HasPrefix(name, prefix) {
				return nil
			}
		}
		if d.Type()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(path)
			files[name] = "-> " + target
			return err
		}
		data, err := os.ReadFile(path)
		files[name] = string(data)
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return files
}
