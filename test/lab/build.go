package lab

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/projecteru2/firstboot/test/lab/cache"
	"github.com/projecteru2/firstboot/test/lab/golden"
	"github.com/projecteru2/firstboot/test/lab/labnet"
	"github.com/projecteru2/firstboot/test/lab/machine"
	"github.com/projecteru2/firstboot/test/lab/parts"
)

const modulePath = "github.com/projecteru2/firstboot"

// build builds everything that the machines boot, or takes it from the cache.
func (l *Lab) build(ctx context.Context, store cache.Store, o Options) error {
	var err error
	if l.Firstboot, err = l.firstboot(ctx, o); err != nil {
		return err
	}
	o.Parts.Log = o.Log
	if l.Parts, err = parts.Build(ctx, o.Parts); err != nil {
		return err
	}
	if l.key, err = l.sshKey(ctx, store); err != nil {
		return err
	}
	if o, err = l.withCertificates(ctx, store, o); err != nil {
		return err
	}
	l.etcdOptions = o.Etcd
	l.Images = map[golden.Release]golden.Image{}
	for _, release := range o.Debian {
		if l.Images[release], err = l.image(ctx, store, o, release); err != nil {
			return err
		}
	}
	l.Image = l.Images[o.Debian[0]]
	l.accel(ctx)(l.Image.Kernel)
	return nil
}

func (l *Lab) image(ctx context.Context, store cache.Store, o Options, release golden.Release) (golden.Image, error) {
	options := golden.Options{
		Release:       release,
		Store:         store,
		Accel:         l.accel(ctx),
		Mirror:        os.Getenv("DEBIAN_MIRROR"),
		DockerImages:  []string{l.Parts.NodeImage},
		Firstboot:     l.Firstboot,
		AuthorizedKey: l.key,
		Files:         o.Files,
	}
	if o.Bare {
		return golden.Base(ctx, options)
	}
	config := l.config(o, release)
	var err error
	if options.Config, err = config.text(); err != nil {
		return golden.Image{}, err
	}
	options.Bundle = config.bundle
	return golden.Build(ctx, options)
}

// ImageFrom is golden.Derive, and also authorizes the lab's SSH key. inputs must
// contain everything that change depends on.
func (l *Lab) ImageFrom(ctx context.Context, from golden.Image, name string, inputs []string, change func(ctx context.Context, root string) error) (golden.Image, error) {
	inputs = append([]string{string(l.key)}, inputs...)
	return golden.Derive(ctx, l.store, from, name, inputs, func(ctx context.Context, root string) error {
		if err := golden.AuthorizeKey(root, l.key); err != nil {
			return err
		}
		return change(ctx, root)
	})
}

// accel returns a function that probes the acceleration once.
func (l *Lab) accel(ctx context.Context) func(kernel string) machine.Accel {
	return func(kernel string) machine.Accel {
		if l.Accel == "" {
			l.Accel = machine.Probe(ctx, kernel)
		}
		return l.Accel
	}
}

// firstboot returns the path of the binary in the options. If that is empty, it
// builds one from this checkout.
func (l *Lab) firstboot(ctx context.Context, o Options) (string, error) {
	if o.Firstboot != "" {
		return o.Firstboot, nil
	}
	path := filepath.Join(l.Dir, "firstboot")
	return path, BuildFirstboot(ctx, path)
}

// BuildFirstboot builds firstboot from this checkout with `make build` and these
// variables of the Makefile.
func BuildFirstboot(ctx context.Context, path string, variables ...string) error {
	root, err := ModuleDir(ctx)
	if err != nil {
		return err
	}
	args := append([]string{"--no-print-directory", "build", "BINARY=" + path}, variables...)
	cmd := exec.CommandContext(ctx, "make", args...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build firstboot: %w\n%s", err, out)
	}
	return nil
}

// ModuleDir returns the root directory of the checkout.
func ModuleDir(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", modulePath).Output()
	if err != nil {
		return "", fmt.Errorf("cannot find the checkout of %s from the working directory: %w", modulePath, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// withCertificates returns the options with the certificates of an etcd with TLS,
// also as files of the images. The certificates are generated once and kept in
// the cache: the images contain them.
func (l *Lab) withCertificates(ctx context.Context, store cache.Store, o Options) (Options, error) {
	if !o.Etcd.HasTLS() {
		return o, nil
	}
	dir, err := store.Get(ctx, "etcd-certificates", cache.Key("1", o.gateway().String()), func(_ context.Context, dir string) error {
		_, err := labnet.NewCertificates(dir, o.gateway())
		return err
	})
	if err != nil {
		return o, err
	}
	o.Etcd.Certificates = labnet.Certificates{Dir: dir}
	files, err := CertificateFiles(o.Etcd.Certificates)
	o.Files = slices.Concat(o.Files, files)
	return o, err
}

// sshKey returns the lab's public SSH key as a line of authorized_keys. It
// generates the key once and keeps it in the cache. The key is only accepted by
// machines on the lab's isolated network.
func (l *Lab) sshKey(ctx context.Context, store cache.Store) ([]byte, error) {
	const private, public = "id_ed25519", "id_ed25519.pub"
	dir, err := store.Get(ctx, "ssh-key", cache.Key("1"), func(_ context.Context, dir string) error {
		pub, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return err
		}
		block, err := ssh.MarshalPrivateKey(key, "firstboot lab")
		if err != nil {
			return err
		}
		line, err := ssh.NewPublicKey(pub)
		if err != nil {
			return err
		}
		return errors.Join(
			os.WriteFile(filepath.Join(dir, private), pem.EncodeToMemory(block), 0o600),
			os.WriteFile(filepath.Join(dir, public), ssh.MarshalAuthorizedKey(line), 0o644),
		)
	})
	if err != nil {
		return nil, err
	}
	l.keyPath = filepath.Join(dir, private)
	line, err := os.ReadFile(filepath.Join(dir, public))
	return bytes.TrimSpace(line), err
}
