package stages

import (
	"context"
	"fmt"
	"regexp"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
)

// CalicoctlPath is where calicoctl is installed.
const CalicoctlPath = "/usr/bin/calicoctl"

// calicoctl puts the pinned calicoctl in place: verified, executable, and
// answering with its version.
type calicoctl struct{ *Env }

func (calicoctl) Name() string    { return "calicoctl" }
func (calicoctl) After() []string { return []string{"preflight"} }

func (s calicoctl) Check(ctx context.Context) (engine.CheckResult, error) {
	var f engine.CheckResult
	want := s.Config.Calicoctl
	info, err := s.Host.Stat(CalicoctlPath)
	if host.NotExist(err) {
		f.Add(engine.Difference{Object: CalicoctlPath, Actual: "not there", Expected: want.Version})
		return f, nil
	}
	if err != nil {
		return f, err
	}
	if info.Mode().Perm()&0o111 == 0 {
		f.Add(engine.Difference{Object: CalicoctlPath, Actual: "not executable", Expected: "mode 0755"})
		return f, nil
	}
	if want.SHA256 != "" {
		seen, err := s.Host.SHA256(CalicoctlPath)
		if err != nil {
			return f, err
		}
		if seen != want.SHA256 {
			f.Add(engine.Difference{Object: CalicoctlPath, Actual: "sha256 " + seen, Expected: "sha256 " + want.SHA256})
			return f, nil
		}
	}
	seen, err := s.version(ctx, CalicoctlPath)
	if err != nil {
		f.Add(engine.Difference{Object: CalicoctlPath, Actual: err.Error(), Expected: want.Version})
	} else if seen != want.Version {
		f.Add(engine.Difference{Object: CalicoctlPath, Actual: "version " + seen, Expected: want.Version})
	}
	return f, nil
}

var clientVersion = regexp.MustCompile(`(?m)^Client Version:\s+(\S+)`)

// version runs a calicoctl to ask for its version. Given a configuration that
// it cannot read it prints the version and ends; given a good one it would go
// on to etcd and hang when that is gone.
func (s calicoctl) version(ctx context.Context, path string) (string, error) {
	out, err := s.Host.Query(ctx, host.Command{
		Name: path, Args: []string{"version", "--config=/dev/null"},
		Env: []string{"DATASTORE_TYPE=none"}, Timeout: calicoctlTime,
	})
	if m := clientVersion.FindSubmatch(out.Stdout); m != nil {
		return string(m[1]), nil
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
	return s.Host.InstallProgram(source, CalicoctlPath, func(trial string) error { return s.try(ctx, trial) })
}

// try runs a calicoctl that is not in its place yet.
func (s calicoctl) try(ctx context.Context, path string) error {
	seen, err := s.version(ctx, path)
	if err != nil {
		return engine.WithHint(fmt.Errorf("the artifact is no calicoctl that runs here: %w", err),
			"is it built for this machine's architecture?")
	}
	if want := s.Config.Calicoctl.Version; seen != want {
		return engine.WithHint(fmt.Errorf("the artifact is calicoctl %s, the configuration says %s", seen, want),
			"set calicoctl.version or the artifact's url and sha256 right")
	}
	return nil
}
