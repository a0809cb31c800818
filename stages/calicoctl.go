package stages

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/projecteru2/firstboot/internal/calico"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/fault"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
)

// calicoctl installs the pinned calicoctl. The stage is done when the file has
// the right digest, is executable and prints the right version.
type calicoctl struct{ *Env }

func (calicoctl) Name() string    { return "calicoctl" }
func (calicoctl) After() []string { return []string{"preflight"} }

func (s calicoctl) Check(ctx context.Context) (engine.CheckResult, error) {
	return s.checkCalicoctl(ctx)
}

// checkCalicoctl adds a difference unless the configured calicoctl is installed. It
// neither reads nor runs a file that was checked and is unchanged since.
func (e *Env) checkCalicoctl(ctx context.Context) (engine.CheckResult, error) {
	e.calicoctl.Lock()
	defer e.calicoctl.Unlock()
	var f engine.CheckResult
	want := e.Config.Calicoctl
	info, err := e.Host.Stat(calico.CtlPath)
	if host.NotExist(err) {
		f.Add(engine.Difference{Object: calico.CtlPath, Actual: "missing", Expected: want.Version})
		return f, nil
	}
	if err != nil {
		return f, err
	}
	if info.Mode().Perm()&0o111 == 0 {
		f.Add(engine.Difference{Object: calico.CtlPath, Actual: "not executable", Expected: "mode 0755"})
		return f, nil
	}
	checked := state.Program{SHA256: e.pinnedDigest(calicoctlName), Version: want.Version, Stamp: host.Stamp(info)}
	if checked.Stamp != "" && (e.calicoctl.checked == checked || e.Notes.Notes().Calicoctl == checked) {
		return f, nil
	}
	if err := e.tryCalicoctl(ctx, checked, &f); err != nil || !f.OK() {
		return f, err
	}
	e.calicoctl.checked = checked
	// A command that only checks cannot store this, and the next one checks again.
	_ = e.Notes.SetNotes(func(n *state.Notes) { n.Calicoctl = checked })
	return f, nil
}

// tryCalicoctl adds a difference unless the installed calicoctl has the pinned
// digest and prints the right version.
func (e *Env) tryCalicoctl(ctx context.Context, want state.Program, f *engine.CheckResult) error {
	if want.SHA256 != "" {
		seen, err := e.Host.SHA256(calico.CtlPath)
		if err != nil {
			return err
		}
		if seen != want.SHA256 {
			f.Add(engine.Difference{Object: calico.CtlPath, Actual: "sha256 " + seen, Expected: "sha256 " + want.SHA256})
			return nil
		}
	}
	seen, err := calico.CtlVersion(ctx, e.Host, calico.CtlPath)
	if errors.Is(err, fs.ErrPermission) {
		return err
	}
	if err != nil {
		f.Add(engine.Difference{Object: calico.CtlPath, Actual: err.Error(), Expected: want.Version})
	} else if seen != want.Version {
		f.Add(engine.Difference{Object: calico.CtlPath, Actual: "version " + seen, Expected: want.Version})
	}
	return nil
}

func (s calicoctl) Apply(ctx context.Context, report engine.Progress) error {
	s.expectFiles(ctx)
	digest := s.pinnedDigest(calicoctlName)
	if path, ok := s.localArtifact(calicoctlName); ok && digest != "" && s.install(ctx, path, digest) == nil {
		return nil // verified while it was copied
	}
	// The local file may be damaged or unreadable, and another source good. An error
	// that any source meets is returned here.
	source, err := s.getArtifact(ctx, calicoctlName, report)
	if err != nil {
		return err
	}
	return s.install(ctx, source, digest)
}

// install installs the calicoctl at path (of this process) and notes that it was
// checked.
func (s calicoctl) install(ctx context.Context, path, digest string) error {
	p := host.Program{Source: path, Path: calico.CtlPath, SHA256: digest, Verified: s.Store.Verified(path, digest)}
	if err := s.Host.InstallProgram(p, func(newFile string) error { return s.checkNewFile(ctx, newFile) }); err != nil {
		return err
	}
	info, err := s.Host.Stat(calico.CtlPath)
	if err != nil {
		return err
	}
	return s.Notes.SetNotes(func(n *state.Notes) {
		n.Calicoctl = state.Program{SHA256: digest, Version: s.Config.Calicoctl.Version, Stamp: host.Stamp(info)}
	})
}

// checkNewFile runs a new calicoctl before it replaces the installed one.
func (s calicoctl) checkNewFile(ctx context.Context, path string) error {
	seen, err := calico.CtlVersion(ctx, s.Host, path)
	if err != nil {
		return engine.WithHint(fmt.Errorf("the artifact is not a calicoctl that runs on this machine: %w", err),
			"check that it is built for this machine's architecture")
	}
	if want := s.Config.Calicoctl.Version; seen != want {
		return engine.WithHint(fmt.Errorf("the artifact is calicoctl %s, but calicoctl.version is %s", seen, want),
			"correct calicoctl.version, or calicoctl.url and calicoctl.sha256")
	}
	return nil
}

// calicoctlError returns a *engine.Wait for etcd if calicoctl could not reach it,
// otherwise a *engine.Retry.
func (e *Env) calicoctlError(err error) error {
	if fault.ClassOf(err) == fault.Transient {
		return e.etcdWait(err)
	}
	return &engine.Retry{Err: err}
}
