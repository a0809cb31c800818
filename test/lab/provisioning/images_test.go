//go:build lab

package provisioning

import (
	"context"
	"embed"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/projecteru2/firstboot/test/lab"
	"github.com/projecteru2/firstboot/test/lab/cache"
	"github.com/projecteru2/firstboot/test/lab/golden"
)

// sources are inputs of the images' cache keys.
//
//go:embed images_test.go
var sources embed.FS

// inputs returns the inputs of an image's cache key, except its base image: texts
// and the contents of files.
func inputs(texts []string, files ...string) ([]string, error) {
	own, err := sources.ReadFile("images_test.go")
	if err != nil {
		return nil, err
	}
	contents, err := cache.Contents(files...)
	return append([]string{string(own), contents}, texts...), err
}

// cloudConfig is the cloud-init configuration of the image. The only datasource
// is the seed disk. It omits modules whose programs the image lacks. Generating
// an RSA key would take half a minute on an emulated processor.
const cloudConfig = `datasource_list: [NoCloud]
cloud_config_modules: [ssh-import-id, set-passwords, grub-dpkg, apt-configure, ntp, timezone, disable-ec2-metadata, runcmd]
ssh_genkeytypes: [ed25519]
disable_root: false
`

// noRouter keeps network-online.target from waiting for an IPv6 router, which the
// lab's network does not have. It is a drop-in for a file of cloud-init.
const noRouter = "[Network]\nLinkLocalAddressing=ipv6\nIPv6AcceptRA=no\n"

// cloudInitImage returns an image of Debian 13 with cloud-init, firstboot and the
// certificates for etcd, but without a configuration for firstboot.
func (e *environment) cloudInitImage(ctx context.Context) (golden.Image, error) {
	in, err := inputs(nil)
	if err != nil {
		return golden.Image{}, err
	}
	stock, err := e.lab.ImageFrom(ctx, e.lab.Images[golden.Debian13], "cloud-init-system", in, func(ctx context.Context, root string) error {
		// Debian 13 does not install e2fsprogs by default. cloud-init calls resize2fs.
		for _, args := range [][]string{{"update"}, {"install", "-y", "--no-install-recommends", "cloud-init", "e2fsprogs"}, {"clean"}} {
			if err := install(ctx, root, args...); err != nil {
				return err
			}
		}
		return writeFiles(root, map[string]string{
			"/etc/cloud/cloud.cfg.d/90-lab.cfg":                             cloudConfig,
			"/etc/systemd/network/10-cloud-init-eth0.network.d/10-lab.conf": noRouter,
		})
	})
	if err != nil {
		return golden.Image{}, err
	}
	certificates, err := lab.CertificateFiles(e.lab.Etcd.Certificates())
	if err != nil {
		return golden.Image{}, err
	}
	var texts []string
	for _, f := range certificates {
		texts = append(texts, string(f.Data))
	}
	if in, err = inputs(texts, e.lab.Firstboot); err != nil {
		return golden.Image{}, err
	}
	return e.lab.ImageFrom(ctx, stock, "cloud-init-image", in, func(ctx context.Context, root string) error {
		_, err := run(ctx, e.lab.Firstboot, "bake", "--root", root, "--no-config")
		for _, f := range certificates {
			path := filepath.Join(root, f.Path)
			err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, f.Data, f.Mode))
		}
		return err
	})
}

// install runs apt-get in an image's root directory, with this machine's network.
func install(ctx context.Context, root string, args ...string) error {
	resolver := filepath.Join(root, "etc/resolv.conf")
	if err := errors.Join(os.RemoveAll(resolver), os.WriteFile(resolver, nil, 0o644)); err != nil {
		return err
	}
	_, err := run(ctx, "systemd-nspawn", append([]string{"--quiet", "--register=no", "--keep-unit", "--console=pipe", "--resolv-conf=replace-host",
		"--timezone=off", "--link-journal=no", "--setenv=DEBIAN_FRONTEND=noninteractive", "--directory=" + root, "apt-get", "-q"}, args...)...)
	return errors.Join(err, os.Remove(resolver))
}

func writeFiles(root string, files map[string]string) error {
	for name, data := range files {
		path := filepath.Join(root, name)
		mode := os.FileMode(0o644)
		if strings.HasPrefix(data, "#!") {
			mode = 0o755
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(data), mode)); err != nil {
			return err
		}
	}
	return nil
}

// ignition is the path of the program in Debian's package, which installs it for
// an initramfs.
const ignition = "/usr/lib/dracut/modules.d/30ignition/ignition"

// initramfs is a system with Ignition and setfiles, which Debian's Ignition calls.
type initramfs struct {
	root string // empty: this machine
}

// run runs a command in the initramfs and in the lab's network. It can write to dirs.
func (i initramfs) run(ctx context.Context, e *environment, dirs []string, args ...string) error {
	if i.root == "" {
		_, err := e.runInLab(ctx, args[0], args[1:]...)
		return err
	}
	// Other labs may use the root directory at the same time, so the mount points of
	// dirs are in an overlay.
	container := []string{"--quiet", "--register=no", "--keep-unit", "--console=pipe", "--read-only", "--volatile=overlay",
		"--resolv-conf=off", "--timezone=off", "--link-journal=no", "--network-namespace-path=/run/netns/" + e.lab.Net.Namespace, "--directory=" + i.root}
	for _, dir := range dirs {
		container = append(container, "--bind="+dir)
	}
	_, err := run(ctx, "systemd-nspawn", append(container, args...)...)
	return err
}

// ignitionImage returns a bare host's image to which the real Ignition has
// applied a configuration, as in an initramfs.
func (e *environment) ignitionImage(ctx context.Context, from golden.Image, in initramfs, config string) (golden.Image, error) {
	data, err := os.ReadFile(config)
	if err != nil {
		return golden.Image{}, err
	}
	// The path of the root directory contains its own cache key.
	key, err := inputs([]string{string(data), in.root}, filepath.Join(in.root, ignition), e.lab.Firstboot)
	if err != nil {
		return golden.Image{}, err
	}
	return e.lab.ImageFrom(ctx, from, "ignition-image", key, func(ctx context.Context, root string) error {
		// As docs/ignition.md describes for an image without SELinux labels.
		err := writeFiles(root, map[string]string{
			"/etc/selinux/config":                            "SELINUX=disabled\nSELINUXTYPE=none\n",
			"/etc/selinux/none/contexts/files/file_contexts": "",
		})
		if err != nil {
			return err
		}
		work, err := os.MkdirTemp(e.lab.Dir, "ignition-")
		if err != nil {
			return err
		}
		for _, stage := range []string{"fetch", "files"} {
			err := in.run(ctx, e, []string{root, e.lab.Dir}, "env", "IGNITION_CONFIG_FILE="+config, ignition, "--platform=file", "--root="+root, "--stage="+stage,
				"--log-to-stdout", "--config-cache="+filepath.Join(work, "cache.json"), "--neednet="+filepath.Join(work, "neednet"))
			if err != nil {
				return err
			}
		}
		return nil
	})
}
