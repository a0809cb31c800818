package golden

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/cenkalti/backoff/v5"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/secret"
	"github.com/projecteru2/firstboot/test/provisiontest"
)

// executable returns an ELF header, which is all that the architecture is read from.
func executable(t *testing.T, goarch string) string {
	t.Helper()
	machine := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[goarch]
	h := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: 1, Ehsize: 64, Phentsize: 56, Shentsize: 64}
	copy(h.Ident[:], []byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)})
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, h); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func otherArch() string {
	if runtime.GOARCH == "arm64" {
		return "amd64"
	}
	return "arm64"
}

// valid returns three artifacts for hosts of this machine's architecture.
func valid(t *testing.T) map[string]string {
	t.Helper()
	return map[string]string{
		"/calicoctl": executable(t, runtime.GOARCH), "/node.tar": string(provisiontest.ImageArchive(t, "calico/node:v3.23.0")),
		"/minions.rpm": string(provisiontest.Package(t, "eru-minions", "noarch")),
	}
}

// locking returns a collector that sets the digests of three artifacts.
func locking(t *testing.T, m *mirror, dir string) *Collector {
	t.Helper()
	c := config.Default()
	c.Calicoctl.URL, c.Node.URL, c.Minions.URL = secret.URL(m.URL+"/calicoctl"), secret.URL(m.URL+"/node.tar"), secret.URL(m.URL+"/minions.rpm")
	all := collector(c, dir, new(bytes.Buffer))
	arch, ok := Architecture(runtime.GOARCH)
	if !ok {
		t.Skip("firstboot has no hosts of this architecture")
	}
	all.Locking, all.Architecture = true, arch
	return all
}

func TestManifestHasTheVersionsOfTheFiles(t *testing.T) {
	dir := t.TempDir()
	c := locking(t, newMirror(t, valid(t)), dir)
	c.CalicoctlVersion = func(_ context.Context, path string) (string, error) {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("the program cannot be executed by its owner only: %v, %v", info, err)
		}
		return "v3.23.0", nil
	}
	got, err := c.Collect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, err := Pack(t.Context(), dir, got.Items)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"v3.23.0", "v3.23.0", "0.1.0-1"} {
		if b.Entries[i].Version != want {
			t.Errorf("%s has version %q, want %q", b.Entries[i].Name, b.Entries[i].Version, want)
		}
	}
}

func TestFileThatIsNotTheArtifactIsRefused(t *testing.T) {
	_, truncated, _ := strings.Cut(string(provisiontest.ImageArchive(t, "calico/node:v3.23.0")), "manifest.json")
	for name, c := range map[string]struct{ path, text, want string }{
		"an error page":                    {"/calicoctl", "hello\n", "cannot use calicoctl: the file is not a Linux executable"},
		"an empty file":                    {"/calicoctl", "", "cannot use calicoctl: the file is not a Linux executable"},
		"a script":                         {"/calicoctl", "#!/bin/sh\necho Client Version: v3.23.0\n", "not a Linux executable"},
		"a program of another type":        {"/calicoctl", executable(t, otherArch()), "cannot use calicoctl: the file is built for "},
		"an archive without an image":      {"/node.tar", truncated, "cannot use node-image: cannot read the image archive"},
		"a page in place of the archive":   {"/node.tar", "<html>", "cannot use node-image: "},
		"a page in place of the package":   {"/minions.rpm", "<html>", "cannot use eru-minions: cannot read the package"},
		"another package":                  {"/minions.rpm", string(provisiontest.Package(t, "bash", "noarch")), "cannot use eru-minions: the file is the package bash"},
		"a package of another processor":   {"/minions.rpm", string(provisiontest.Package(t, "eru-minions", "ppc64le")), "cannot use eru-minions: the package is for ppc64le"},
		"a program that is not calicoctl":  {"/calicoctl", executable(t, runtime.GOARCH), ""},
		"a package that has been cut off":  {"/minions.rpm", string(provisiontest.Package(t, "eru-minions", "noarch")[:200]), "cannot use eru-minions: "},
		"an archive of another compressor": {"/node.tar", "\xfd7zXZ\x00", "cannot use node-image: "},
	} {
		t.Run(name, func(t *testing.T) {
			files := valid(t)
			files[c.path] = c.text
			dir := filepath.Join(t.TempDir(), "bundle")
			collector := locking(t, newMirror(t, files), dir)
			if c.want == "" {
				c.want = "cannot use calicoctl: the file is not a calicoctl: it printed no version"
				collector.CalicoctlVersion = func(context.Context, string) (string, error) { return "", errors.New("it printed no version") }
			}
			_, err := collector.Collect(t.Context())
			var refused *RefusedError
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			if !strings.Contains(refused.Hint(), ".url") {
				t.Errorf("hint %q", refused.Hint())
			}
			Discard(dir)
			if _, err := os.Stat(dir); err == nil {
				t.Error("the downloads are still there")
			}
		})
	}
}

// A digest does not make a file usable: every host would refuse it.
func TestPinnedFileThatIsNotTheArtifactIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ path, text, want, key string }{
		"a text":          {"/calicoctl", "one", "the file is not a Linux executable", "calicoctl.url and calicoctl.sha256"},
		"another type":    {"/calicoctl", executable(t, otherArch()), "the file is built for", "calicoctl.url and calicoctl.sha256"},
		"not an archive":  {"/node.tar", "two", "cannot read the image archive", "node.url and node.sha256"},
		"another image":   {"/node.tar", string(provisiontest.ImageArchive(t, "calico/node:v3.22.0")), "the archive holds calico/node:v3.22.0, but node.image is calico/node:v3.23.0: hosts refuse it", "node.image"},
		"not a package":   {"/minions.rpm", "three", "cannot read the package", "minions.url and minions.sha256"},
		"another package": {"/minions.rpm", string(provisiontest.Package(t, "bash", "noarch")), "the file is the package bash", "minions.url and minions.sha256"},
		"another version": {"", "", "the file is calicoctl v3.22.4, but calicoctl.version is v3.23.0: hosts refuse it", "calicoctl.version"},
	} {
		for _, locking := range []bool{false, true} {
			files := valid(t)
			if c.path != "" {
				files[c.path] = c.text
			}
			m := newMirror(t, files)
			arch, ok := Architecture(runtime.GOARCH)
			if !ok {
				t.Skip("firstboot has no hosts of this architecture")
			}
			dir := filepath.Join(t.TempDir(), "bundle")
			collector := collector(pinned(m), dir, new(bytes.Buffer))
			collector.Locking, collector.Architecture = locking, arch
			if c.path == "" {
				collector.CalicoctlVersion = func(context.Context, string) (string, error) { return "v3.22.4", nil }
			}
			_, err := collector.Collect(t.Context())
			var refused *RefusedError
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.want) || !strings.Contains(refused.Hint(), c.key) {
				t.Errorf("%s, locking %v: %v, want %q and a hint with %q", name, locking, err, c.want, c.key)
			}
		}
	}
}

// A program that this machine cannot run is not refused: only its version is unknown.
func TestVersionOfAProgramForAnotherArchitectureIsAWarning(t *testing.T) {
	files := valid(t)
	files["/calicoctl"] = executable(t, otherArch())
	c := collector(pinned(newMirror(t, files)), t.TempDir(), new(bytes.Buffer))
	c.Architecture, _ = Architecture(otherArch())
	got, err := c.Collect(t.Context())
	if err != nil || !strings.Contains(strings.Join(got.Warnings, "\n"), "its version was not checked") {
		t.Errorf("%v, %v", got.Warnings, err)
	}
}

func TestDirectoryThatCannotBeWrittenIsNamedBeforeAnyFetch(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "file"), "", 0o600)
	err := CreateDownloadDir(filepath.Join(file, "bundle"))
	if err == nil || err.Error() != "cannot write the bundle to "+file+"/bundle: not a directory" {
		t.Errorf("got %v", err)
	}
	// The same problem during a fetch is not retried.
	for _, err := range []error{os.ErrPermission, &os.PathError{Op: "mkdir", Path: "/x", Err: syscall.EROFS}} {
		var permanent *backoff.PermanentError
		if !errors.As(retryable(err), &permanent) {
			t.Errorf("%v is retried", err)
		}
	}
}
