//go:build lab

package ways

import (
	"context"
	"embed"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/projecteru2/firstboot/test/lab/cache"
	"github.com/projecteru2/firstboot/test/lab/golden"
)

// The source that decides what the images are: a part of their keys.
//
//go:embed images_test.go
var sources embed.FS

// inputs are what an image depends on, besides the image that it is made from:
// texts, and paths of files.
func inputs(texts []string, files ...string) ([]string, error) {
	own, err := sources.ReadFile("images_test.go")
	if err != nil {
		return nil, err
	}
	contents, err := cache.Contents(files...)
	return append([]string{string(own), contents}, texts...), err
}

// cloudConfig is the image's own: only a seed disk is looked for. Of Debian's
// modules those are left out whose programs this small root lacks. Keys: RSA
// takes an emulated processor half a minute.
const cloudConfig = `datasource_list: [NoCloud]
cloud_config_modules: [ssh-import-id, set-passwords, grub-dpkg, apt-configure, ntp, timezone, disable-ec2-metadata, runcmd]
ssh_genkeytypes: [ed25519]
disable_root: false
`

// noIPv6 keeps network-online.target from waiting for addresses that the wire
// has none of. The file beside it is written by cloud-init.
const noIPv6 = "[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"

// cloudInitImage is Debian with its cloud-init, and with firstboot, which has no
// configuration yet.
func (s *site) cloudInitImage(ctx context.Context) (golden.Image, error) {
	in, err := inputs(nil)
	if err != nil {
		return golden.Image{}, err
	}
	stock, err := s.l.ImageFrom(ctx, s.l.Image, "cloud-init-system", in, func(ctx context.Context, root string) error {
		for _, args := range [][]string{{"update"}, {"install", "-y", "--no-install-recommends", "cloud-init"}, {"clean"}} {
			if err := install(ctx, root, args...); err != nil {
				return err
			}
		}
		return write(root, map[string]string{
			"/etc/cloud/cloud.cfg.d/90-lab.cfg":                             cloudConfig,
			"/etc/systemd/network/10-cloud-init-eth0.network.d/10-lab.conf": noIPv6,
		})
	})
	if err != nil {
		return golden.Image{}, err
	}
	if in, err = inputs(nil, s.l.Firstboot); err != nil {
		return golden.Image{}, err
	}
	return s.l.ImageFrom(ctx, stock, "cloud-init-image", in, func(ctx context.Context, root string) error {
		_, err := run(ctx, s.l.Firstboot, "bake", "--root", root, "--no-config")
		return err
	})
}

// install runs apt-get in an image's root, with this machine's network.
func install(ctx context.Context, root string, args ...string) error {
	resolver := filepath.Join(root, "etc/resolv.conf")
	if err := errors.Join(os.RemoveAll(resolver), os.WriteFile(resolver, nil, 0o644)); err != nil {
		return err
	}
	_, err := run(ctx, "systemd-nspawn", append([]string{"--quiet", "--register=no", "--keep-unit", "--console=pipe", "--resolv-conf=replace-host",
		"--timezone=off", "--link-journal=no", "--setenv=DEBIAN_FRONTEND=noninteractive", "--directory=" + root, "apt-get", "-q"}, args...)...)
	return errors.Join(err, os.Remove(resolver))
}

func write(root string, files map[string]string) error {
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

// ignition is where Debian's package has it: it is made to run in an initramfs.
const ignition = "/usr/lib/dracut/modules.d/30ignition/ignition"

// ignitionImage is a bare host's disk to which the real Ignition applied a
// config, as it does in an initramfs.
func (s *site) ignitionImage(ctx context.Context, config string) (golden.Image, error) {
	data, err := os.ReadFile(config)
	if err != nil {
		return golden.Image{}, err
	}
	in, err := inputs([]string{string(data)}, ignition, s.l.Firstboot)
	if err != nil {
		return golden.Image{}, err
	}
	return s.l.ImageFrom(ctx, s.l.Image, "ignition-image", in, func(ctx context.Context, root string) error {
		// As docs/ignition.md has it, for an image that knows no labels.
		err := write(root, map[string]string{
			"/etc/selinux/config":                            "SELINUX=disabled\nSELINUXTYPE=none\n",
			"/etc/selinux/none/contexts/files/file_contexts": "",
		})
		if err != nil {
			return err
		}
		work, err := os.MkdirTemp(s.l.Dir, "ignition-")
		if err != nil {
			return err
		}
		for _, stage := range []string{"fetch", "files"} {
			_, err := s.onWire(ctx, "env", "IGNITION_CONFIG_FILE="+config, ignition, "--platform=file", "--root="+root, "--stage="+stage,
				"--log-to-stdout", "--config-cache="+filepath.Join(work, "cache.json"), "--neednet="+filepath.Join(work, "neednet"))
			if err != nil {
				return err
			}
		}
		return nil
	})
}
