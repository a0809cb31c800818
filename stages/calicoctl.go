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
)

// calicoctl installs the pinned calicoctl. The stage is done when the file has
// the right digest, is executable and prints the right version.
type calicoctl struct{ *Env }

func (calicoctl) Name() string    { return "calicoctl" }
func (calicoctl) After() []string { return []string{"preflight"} }

func (s calicoctl) Check(ctx context.Context) (engine.CheckResult, error) {
	return s.checkCalicoctl(ctx)
}

// checkCalicoctl adds a difference unless the configured calicoctl is installed.
func (e *Env) checkCalicoctl(ctx context.Context) (engine.CheckResult, error) {
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
	if digest := e.pinnedDigest(calicoctlName); digest != "" {
		seen, err := e.Host.SHA256(calico.CtlPath)
		if err != nil {
			return f, err
		}
		if seen != digest {
			f.Add(engine.Difference{Object: calico.CtlPath, Actual: "sha256 " + seen, Expected: "sha256 " + digest})
			return f, nil
		}
	}
	seen, err := calico.CtlVersion(ctx, e.Host, calico.CtlPath)
	if errors.Is(err, fs.ErrPermission) {
		return f, err
	}
	if err != nil {
		f.Add(engine.Difference{Object: calico.CtlPath, Actual: err.Error(), Expected: want.Version})
	} else if seen != want.Version {
		f.Add(engine.Difference{Object: calico.CtlPath, Actual: "version " + seen, Expected: want.Version})
	}
	return f, nil
}

func (s calicoctl) Apply(ctx context.Context, report engine.Progress) error {
	s.expectFiles(ctx)
	source, err := s.getArtifact(ctx, calicoctlName, report)
	if err != nil {
		return err
	}
	return s.Host.InstallProgram(source, calico.CtlPath, func(newFile string) error { return s.checkNewFile(ctx, newFile) })
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
