//go:build integration

package artifact

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/projecteru2/firstboot/internal/fault"
)

// run runs a program that must succeed.
func run(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, args...)
	c.Env = append(os.Environ(), env...)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

const spec = `
Name: eru-minions
Version: 1.2.3
Release: 4
Summary: Docker's network plugin
License: MIT
BuildArch: noarch
%description
Docker's network plugin.
%install
mkdir -p %{buildroot}/usr/bin
echo '#!/bin/sh' > %{buildroot}/usr/bin/eru-minions
%post
systemctl daemon-reload
%files
/usr/bin/eru-minions
`

// buildPackage makes a package with rpmbuild.
func buildPackage(t *testing.T, defines ...string) string {
	t.Helper()
	top := t.TempDir()
	specFile := filepath.Join(top, "eru-minions.spec")
	if err := os.WriteFile(specFile, []byte(spec), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-bb", "--define", "_topdir " + top, "--define", "_build_id_links none"}
	for _, d := range defines {
		args = append(args, "--define", d)
	}
	run(t, nil, "rpmbuild", append(args, specFile)...)
	found, err := filepath.Glob(filepath.Join(top, "RPMS", "noarch", "*.rpm"))
	if err != nil || len(found) != 1 {
		t.Fatalf("rpmbuild made %v, %v", found, err)
	}
	return found[0]
}

// gpgKey makes a key with gpg in a new keyring, and exports its public key.
func gpgKey(t *testing.T, algorithm string) (env []string, public string) {
	t.Helper()
	// gpg-agent's socket needs a short path.
	home, err := os.MkdirTemp("", "gpg")
	if err != nil {
		t.Fatal(err)
	}
	env = []string{"GNUPGHOME=" + home}
	t.Cleanup(func() {
		kill := exec.Command("gpgconf", "--kill", "gpg-agent")
		kill.Env = append(os.Environ(), env...)
		_ = kill.Run()
		os.RemoveAll(home)
	})
	run(t, env, "gpg", "--batch", "--passphrase", "", "--quick-generate-key", "packager@example.org", algorithm, "sign", "never")
	public = filepath.Join(home, "key.asc")
	if err := os.WriteFile(public, []byte(run(t, env, "gpg", "--armor", "--export")), 0o600); err != nil {
		t.Fatal(err)
	}
	return env, public
}

func rpmsign(t *testing.T, env []string, path string) {
	t.Helper()
	gpg, err := exec.LookPath("gpg") // rpm's own guess is gpg2 in some distributions
	if err != nil {
		t.Fatal(err)
	}
	run(t, env, "rpmsign", "--define", "_gpg_name packager@example.org", "--define", "__gpg "+gpg, "--addsign", path)
}

// TestRpmbuildAndRpmsign reads and verifies packages made with the
// distribution's tools.
func TestRpmbuildAndRpmsign(t *testing.T) {
	for _, algorithm := range []string{"rsa3072", "ed25519"} {
		for _, payload := range []string{"w9.gzdio", "w19.zstdio", "w2.xzdio"} {
			t.Run(algorithm+" "+payload, func(t *testing.T) {
				t.Parallel()
				env, public := gpgKey(t, algorithm)
				path := buildPackage(t, "_binary_payload "+payload)
				p, err := ReadPackage(path)
				if err != nil || p.String() != "eru-minions-1.2.3-4.noarch" || p.Signed || fmt.Sprint(p.Scriptlets) != "[post]" {
					t.Fatalf("unsigned: %+v, %v", p, err)
				}
				if err := VerifySignature(path, public); err == nil || !strings.Contains(err.Error(), "not signed") {
					t.Errorf("unsigned: %v", err)
				}
				rpmsign(t, env, path)
				if p, err := ReadPackage(path); err != nil || !p.Signed {
					t.Errorf("signed: %+v, %v", p, err)
				}
				if err := VerifySignature(path, public); err != nil {
					t.Errorf("signed: %v", err)
				}
				data, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := VerifySignature(file(t, flip(data, len(data)-50)), public); err == nil {
					t.Error("a changed payload is accepted")
				}
				_, stranger := gpgKey(t, algorithm)
				if err := VerifySignature(path, stranger); err == nil || !strings.Contains(err.Error(), "not among the public keys") {
					t.Errorf("another key: %v", err)
				}
			})
		}
	}
}

// A full disk is reported before the first byte if the size is known, and
// otherwise by the write. No partial file remains. Mounting needs root.
func TestFullDisk(t *testing.T) {
	cache := t.TempDir()
	if err := syscall.Mount("tmpfs", cache, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatalf("cannot mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(cache, 0); err != nil {
			t.Error(err)
		}
	})
	data := noise(200_000)
	sized, _ := serve(t, data)
	unsized := server(t, chunked(data))
	for what, url := range map[string]string{"size known": sized, "size unknown": unsized, "a file": file(t, data)} {
		s, _ := logged(t, func(o *Options) { o.Cache = cache })
		_, err := s.Get(t.Context(), Ref{Name: "x", URL: url, SHA256: digestOf(data)}, nil)
		var e *Error
		if !errors.As(err, &e) || fault.IsPermanent(err) || !errors.Is(err, syscall.ENOSPC) || !strings.Contains(e.Hint(), "free up space") {
			t.Errorf("%s: %v, want a transient ENOSPC with a hint", what, err)
		}
		wantCache(t, s)
	}
}
