package stages

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/text"
)

// CalicoctlPath is the path of the installed calicoctl.
const CalicoctlPath = "/usr/bin/calicoctl"

// calicoctl installs the pinned calicoctl. The stage is done when the file has
// the right digest, is executable and prints the right version.
type calicoctl struct{ *Env }

func (calicoctl) Name() string    { return "calicoctl" }
func (calicoctl) After() []string { return []string{"preflight"} }

func (s calicoctl) Check(ctx context.Context) (engine.CheckResult, error) {
	var f engine.CheckResult
	want := s.Config.Calicoctl
	info, err := s.Host.Stat(CalicoctlPath)
	if host.NotExist(err) {
		f.Add(engine.Difference{Object: CalicoctlPath, Actual: "missing", Expected: want.Version})
		return f, nil
	}
	if err != nil {
		return f, err
	}
	if info.Mode().Perm()&0o111 == 0 {
		f.Add(engine.Difference{Object: CalicoctlPath, Actual: "not executable", Expected: "mode 0755"})
		return f, nil
	}
	if digest := s.pinnedDigest(calicoctlName); digest != "" {
		seen, err := s.Host.SHA256(CalicoctlPath)
		if err != nil {
			return f, err
		}
		if seen != digest {
			f.Add(engine.Difference{Object: CalicoctlPath, Actual: "sha256 " + seen, Expected: "sha256 " + digest})
			return f, nil
		}
	}
	seen, err := s.version(ctx, CalicoctlPath)
	if errors.Is(err, fs.ErrPermission) {
		return f, err
	}
	if err != nil {
		f.Add(engine.Difference{Object: CalicoctlPath, Actual: err.Error(), Expected: want.Version})
	} else if seen != want.Version {
		f.Add(engine.Difference{Object: CalicoctlPath, Actual: "version " + seen, Expected: want.Version})
	}
	return f, nil
}

var clientVersion = regexp.MustCompile(`(?m)^Client Version:[ \t]+(\S+)`)

// clientVersionIn returns the version in the output of calicoctl version, or "".
func clientVersionIn(output []byte) string {
	m := clientVersion.FindSubmatch(output)
	if m == nil {
		return ""
	}
	return text.Line(string(m[1]))
}

func (s calicoctl) version(ctx context.Context, path string) (string, error) {
	return CalicoctlVersion(ctx, s.Host, path)
}

// CalicoctlVersion returns the version that the calicoctl at path prints. It passes a
// configuration that calicoctl cannot read: calicoctl then prints its version
// and exits. With a valid one it would connect to etcd, and hang if etcd is
// unreachable.
func CalicoctlVersion(ctx context.Context, h *host.Host, path string) (string, error) {
	out, err := h.Query(ctx, host.Command{
		Name: path, Args: []string{"version", "--config=/dev/null"},
		Env: []string{"DATASTORE_TYPE=none"}, Timeout: calicoctlTimeout,
	})
	if version := clientVersionIn(out.Stdout); version != "" {
		return version, nil
	}
	if err == nil {
		err = fmt.Errorf("%s version printed no client version", path)
	}
	return "", err
}

func (s calicoctl) Apply(ctx context.Context, report engine.Progress) error {
	source, err := s.getArtifact(ctx, calicoctlName, report)
	if err != nil {
		return err
	}
	return s.Host.InstallProgram(source, CalicoctlPath, func(newFile string) error { return s.checkNewFile(ctx, newFile) })
}

// checkNewFile runs a new calicoctl before it replaces the installed one.
func (s calicoctl) checkNewFile(ctx context.Context, path string) error {
	seen, err := s.version(ctx, path)
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
