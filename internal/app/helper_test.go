package app_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
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

// machine is a root folder with stages that work on real files in it.
type machine struct {
	t       *testing.T
	root    string
	h       *host.Host
	out     bytes.Buffer
	errs    bytes.Buffer
	stages  []*fileStage
	steps   atomic.Int64 // changes of the machine
	step    func(op, target string)
	force   bool
	only    []string
	ctx     context.Context
	files   []string
	cmdline string
	events  func(engine.Event)
}

// newMachine has three stages: first, then second and third after it.
func newMachine(t *testing.T) *machine {
	m := newMachineAt(t.TempDir())
	m.t, m.ctx = t, t.Context()
	m.put("/etc/machine-id", "aaaa\n")
	m.put("/proc/sys/kernel/random/boot_id", "boot1\n")
	m.put("/etc/firstboot/config.yaml", validConfig)
	return m
}

func newMachineAt(root string) *machine {
	m := &machine{root: root, h: host.New(root), ctx: context.Background()}
	m.stages = []*fileStage{{name: "first"}, {name: "second", after: []string{"first"}}, {name: "third", after: []string{"second"}}}
	return m
}

// fileStage is done when its file says so.
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
	var f engine.CheckResult
	if s.check != nil {
		if err := s.check(); err != nil {
			return f, err
		}
	}
	data, err := s.h.ReadFile(s.path())
	if err != nil || string(data) != s.want {
		f.Add(engine.Difference{Object: s.path(), Actual: "other text", Expected: s.want, Diff: "-a\n+b\n"})
	}
	return f, nil
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

// build makes what each file must say from the configuration.
func (m *machine) build(p app.BuildOptions) (app.StageSet, error) {
	var work app.StageSet
	for _, s := range m.stages {
		s.h = p.Host
		if p.Config != nil {
			s.want = p.Config.Pool.CIDR.String()
		}
		work.Stages = append(work.Stages, s)
	}
	return work, nil
}

func (m *machine) options() app.Options {
	return app.Options{Root: m.root, Files: m.files, Cmdline: m.cmdline, Version: "v1.0.0", Build: m.build, Host: []host.Option{
		host.WithStep(func(op, target string) {
			m.steps.Add(1)
			if m.step != nil {
				m.step(op, target)
			}
		}),
	}}
}

// run runs firstboot and returns its exit code.
func (m *machine) run() int {
	m.t.Helper()
	m.out.Reset()
	m.errs.Reset()
	err := app.Run(m.ctx, app.RunOptions{
		Options: m.options(), Force: m.force, Stages: m.only, Out: &m.out, Err: &m.errs,
		Engine: engine.Options{MinBackOff: time.Millisecond, MaxBackOff: 2 * time.Millisecond, Attempts: 2, Events: m.events},
	})
	var told *app.ReportedError
	if err != nil && !errors.As(err, &told) {
		fmt.Fprintln(&m.errs, err, engine.Hint(err))
	}
	return app.ExitCode(err)
}

// runs wants an exit code and words in the output.
func (m *machine) runs(code int, words ...string) {
	m.t.Helper()
	if got := m.run(); got != code {
		m.t.Fatalf("exit code %d, want %d\n%s%s", got, code, &m.out, &m.errs)
	}
	for _, w := range words {
		if !strings.Contains(m.out.String()+m.errs.String(), w) {
			m.t.Errorf("nothing says %q:\n%s%s", w, &m.out, &m.errs)
		}
	}
}

// is wants a state.
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
			m.t.Errorf("status does not say %q: %s", w, text)
		}
	}
}

func (m *machine) put(path, text string) {
	m.t.Helper()
	if err := m.h.WriteFile(path, []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) get(path string) string {
	m.t.Helper()
	data, err := m.h.ReadFile(path)
	if err != nil {
		m.t.Fatal(err)
	}
	return string(data)
}

// tree is every file below the root with its text; volatile names are left out.
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
		data, err := os.ReadFile(path)
		files[name] = string(data)
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return files
}
