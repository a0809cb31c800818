package parts

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/projecteru2/firstboot/test/lab/cache"
)

//go:embed debian13.go
var debianRecipe string

// debian13Packages are those of a host of the namespace lab. It has no systemd:
// the lab starts its processes.
var debian13Packages = []string{
	"ca-certificates", "containerd", "crun", "docker-cli", "docker.io", "etcd-server", "iproute2", "iptables",
	"iputils-ping", "kmod", "procps", "rpm", "runc",
	"busybox-static",     // the lab's ping image
	"libdevmapper1.02.1", // Debian 12's dockerd
}

// debian12Files are the programs that debian12Programs takes from Debian 12.
var debian12Files = []string{
	"usr/sbin/dockerd", "usr/sbin/docker-proxy", "usr/bin/docker-init",
	"usr/bin/containerd", "usr/bin/containerd-shim-runc-v2", "usr/sbin/runc",
	"usr/bin/etcd",
}

// Debian13 returns the root directory of a Debian 13 with Docker and without
// systemd. The first build takes about 30 s. Do not write to the directory: hosts
// use it as the lower layer of an overlay.
func Debian13(ctx context.Context, log cache.Logf) (string, error) {
	dir, err := cache.Open(log).Get(ctx, "debian13", cache.Key(debianRecipe), func(ctx context.Context, dir string) error {
		return mmdebstrap(ctx, filepath.Join(dir, "root"), "trixie", "minbase", debian13Packages,
			"--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*")
	})
	return filepath.Join(dir, "root"), err
}

// debian12Programs returns a directory with Debian 12's Docker and etcd.
func debian12Programs(ctx context.Context, log cache.Logf) (string, error) {
	return cache.Open(log).Get(ctx, "debian12-programs", cache.Key(debianRecipe), func(ctx context.Context, dir string) error {
		root := filepath.Join(dir, "root")
		err := mmdebstrap(ctx, root, "bookworm", "extract", []string{"containerd", "docker.io", "etcd-server", "runc"})
		if err != nil {
			return err
		}
		for _, file := range debian12Files {
			from, err := realFile(root, filepath.Join(root, file))
			if err != nil {
				return err
			}
			if _, err := run(ctx, process{name: "cp", args: []string{"-p", from, filepath.Join(dir, filepath.Base(file))}}); err != nil {
				return err
			}
		}
		return os.RemoveAll(root)
	})
}

// mmdebstrap creates a root directory from the mirror in DEBIAN_MIRROR, or from
// Debian's.
func mmdebstrap(ctx context.Context, root, suite, variant string, packages []string, options ...string) error {
	args := append([]string{"--quiet", "--variant=" + variant, "--mode=root", "--format=directory", "--include=" + strings.Join(packages, ",")}, options...)
	args = append(args, suite, root)
	if mirror := os.Getenv("DEBIAN_MIRROR"); mirror != "" {
		args = append(args, mirror)
	}
	environment := []string{"DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin"}
	if _, err := run(ctx, process{name: "mmdebstrap", args: args, env: environment}); err != nil {
		return fmt.Errorf("cannot build a root directory of Debian (%s): %w", suite, err)
	}
	return nil
}
