package golden

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
)

// checkArchitecture reports an error if firstboot is built for another
// architecture than the image's own programs.
func (b *Bake) checkArchitecture(p *Plan) error {
	ours, dynamic, err := architecture(b.Binary)
	if err != nil {
		return engine.WithHint(fmt.Errorf("cannot bake %s: %s is not a Linux executable", b.Host.Root(), b.Binary), "set --binary to a firstboot executable")
	}
	if dynamic {
		p.warn("the firstboot to install (%s) needs libraries that the image may not have: build firstboot with CGO_ENABLED=0", b.Binary)
	}
	if theirs := ImageArchitecture(b.Host); theirs != "" && ours != theirs {
		return engine.WithHint(fmt.Errorf("cannot bake %s: the image is for %s, but this firstboot is for %s", b.Host.Root(), theirs, ours),
			"set --binary to a firstboot that is built for the image")
	}
	return nil
}

// ImageArchitecture returns the architecture of an image's own programs, or ""
// if it has none.
func ImageArchitecture(h *host.Host) string {
	for _, path := range []string{"/usr/lib/systemd/systemd", "/lib/systemd/systemd", "/bin/sh", "/usr/bin/env"} {
		if name, _, err := architecture(h.RealPath(path)); err == nil {
			return name
		}
	}
	return ""
}

// architectureName returns how messages name an architecture: X86_64 (ELFCLASS64).
func architectureName(machine elf.Machine, class elf.Class) string {
	return fmt.Sprintf("%s (%s)", strings.TrimPrefix(machine.String(), "EM_"), class)
}

// warnMissing warns of programs that the stages need at first boot.
func (b *Bake) warnMissing(p *Plan) {
	any := func(paths ...string) bool { return slices.ContainsFunc(paths, b.Host.Exists) }
	if !any("/usr/lib/systemd/systemd", "/lib/systemd/systemd") {
		p.warn("the image has no systemd: nothing will start firstboot")
	}
	if !any("/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd") {
		p.warn("the image has no Docker: preflight will refuse")
	}
	if !any("/usr/bin/rpm", "/bin/rpm") {
		p.warn("the image has no rpm: it is needed to install eru-minions at first boot")
	}
	if selinux, err := b.Host.ReadFile("/etc/selinux/config"); err == nil && usesSELinux(string(selinux)) && !b.Host.Live() {
		p.warn("the image uses SELinux, and files written offline have no labels: touch %s/.autorelabel, or relabel the image with its builder", b.Host.Root())
	}
}

func usesSELinux(config string) bool {
	for line := range strings.Lines(config) {
		if mode, ok := strings.CutPrefix(strings.TrimSpace(line), "SELINUX="); ok {
			return strings.TrimSpace(mode) != "disabled"
		}
	}
	return false
}

// fileDigest returns the SHA-256 and the size in bytes of a file on this machine.
func fileDigest(path string) (digest string, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	if size, err = io.Copy(h, f); err != nil {
		return "", 0, err
	}
	return hex.EncodeToString(h.Sum(nil)), size, nil
}
