package parts

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/projecteru2/firstboot/test/lab/cache"
)

// DockerVersion is a version of Docker that runs on a Debian13 root.
type DockerVersion string

// EtcdVersion is a version of etcd that runs on this machine.
type EtcdVersion string

// The versions are Debian 12's, Debian 13's and, built from Go modules, today's.
const (
	Docker20 DockerVersion = "20.10"
	Docker26 DockerVersion = "26.1"
	Docker29 DockerVersion = "29"

	Etcd34 EtcdVersion = "3.4" // the only one with the v2 API
	Etcd35 EtcdVersion = "3.5"
	Etcd37 EtcdVersion = "3.7"
)

// DockerVersions returns all versions of Docker, the oldest first.
func DockerVersions() []DockerVersion { return []DockerVersion{Docker20, Docker26, Docker29} }

// EtcdVersions returns all versions of etcd, the oldest first.
func EtcdVersions() []EtcdVersion { return []EtcdVersion{Etcd34, Etcd35, Etcd37} }

// Engine is a version of Docker. Programs that are not in Dir are those of the
// Debian13 root.
type Engine struct {
	Version DockerVersion
	// Dir holds the programs that differ from Debian 13's. It must come first in
	// PATH. It is empty if none differs.
	Dir string
	// Runtime is the path of the program to use as runc; empty: runc itself.
	Runtime string
}

// dockerdModule is the Go module of Docker 29, with its version in dockerd's form.
const (
	dockerdModule  = "github.com/moby/moby/v2"
	dockerdVersion = "29.0.0-moby-v2.0.0-beta.15"
)

func dockerd() goProgram {
	return goProgram{"dockerd", dockerdModule + "/cmd/dockerd", dockerdVersion, []string{dockerdModule + "/dockerversion.Version"}}
}

func etcd37() goProgram { return goProgram{name: "etcd", path: "go.etcd.io/etcd/server/v3"} }

// Docker returns a version of Docker. The first build of Docker 29 takes three
// minutes of CPU time.
func Docker(ctx context.Context, version DockerVersion, log cache.Logf) (Engine, error) {
	e := Engine{Version: version}
	var err error
	switch version {
	case Docker20:
		e.Dir, err = debian12Programs(ctx, log)
	case Docker26:
	case Docker29:
		var program string
		program, err = nestedProgram(ctx, "moby", dockerd(), log)
		e.Dir = filepath.Dir(program)
		// Debian 13's runc is too old for it: `namespace {"time" ""} does not exist`.
		e.Runtime = "/usr/bin/crun"
	default:
		err = fmt.Errorf("cannot find Docker %s: want one of %v", version, DockerVersions())
	}
	return e, err
}

// Etcd returns the path of a version of etcd.
func Etcd(ctx context.Context, version EtcdVersion, log cache.Logf) (string, error) {
	switch version {
	case Etcd34:
		dir, err := debian12Programs(ctx, log)
		return filepath.Join(dir, "etcd"), err
	case Etcd35:
		root, err := Debian13(ctx, log)
		return filepath.Join(root, "usr/bin/etcd"), err
	case Etcd37:
		return nestedProgram(ctx, "etcd", etcd37(), log)
	}
	return "", fmt.Errorf("cannot find etcd %s: want one of %v", version, EtcdVersions())
}

// nestedProgram builds a program of another nested module.
func nestedProgram(ctx context.Context, module string, p goProgram, log cache.Logf) (string, error) {
	dir, err := moduleDir(ctx, module)
	if err != nil {
		return "", err
	}
	return builder{store: cache.Open(log), dir: dir}.goProgram(ctx, p)
}

// MinionsProgram returns the path of the stand-in for eru-minions.
func MinionsProgram(ctx context.Context, log cache.Logf) (string, error) {
	return nestedProgram(ctx, calicoDir, minions(), log)
}

// SupportsV2 reports whether this version serves the v2 API with --enable-v2.
func (v EtcdVersion) SupportsV2() bool { return v == Etcd34 }

// Newer returns the versions of Docker after this one, the oldest first.
func (v DockerVersion) Newer() []DockerVersion {
	all := DockerVersions()
	return all[slices.Index(all, v)+1:]
}
