package host_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/host"
)

// TestProgramWithAnotherDigestIsNotTried, and does not replace the installed one.
func TestProgramWithAnotherDigestIsNotTried(t *testing.T) {
	root, source := t.TempDir(), filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(source, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("new"))
	right, hashed, tried := hex.EncodeToString(sum[:]), 0, 0
	h := host.New(root, host.WithHashing(func(string) { hashed++ }))
	install := func(digest string, verified bool) error {
		return h.InstallProgram(host.Program{Source: source, Path: "/usr/bin/program", SHA256: digest, Verified: verified}, func(string) error {
			tried++
			return nil
		})
	}
	other := hex.EncodeToString(make([]byte, sha256.Size))
	var damaged *host.DigestError
	if err := install(other, false); !errors.As(err, &damaged) || damaged.Actual != right || tried != 0 {
		t.Errorf("another digest: %v, tried %d times", err, tried)
	}
	names, err := h.ReadDir("/usr/bin")
	if err != nil || len(names) != 0 {
		t.Errorf("left %q, %v", names, err)
	}
	for _, verified := range []bool{false, true} {
		if err := install(right, verified); err != nil {
			t.Error(err)
		}
	}
	if data, err := h.ReadFile("/usr/bin/program"); string(data) != "new" || err != nil || tried != 2 || hashed != 2 {
		t.Errorf("installed %q, %v; tried %d times, hashed %d times", data, err, tried, hashed)
	}
}

// TestStampChangesWithTheFile: a write, a new file and a restored time change it.
func TestStampChangesWithTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	seen := map[string]string{}
	check := func(what string) {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		stamp := host.Stamp(info)
		if before, known := seen[stamp]; known || stamp == "" {
			t.Errorf("%s: the stamp %q is that of %s", what, stamp, before)
		}
		seen[stamp] = what
	}
	write := func() {
		time.Sleep(20 * time.Millisecond) // the kernel's clock of files has ticks
		if err := os.WriteFile(path, []byte("same size"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write()
	check("a new file")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	write()
	check("written in place")
	write()
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	check("written in place, with the old time")
	if err := os.Rename(path, path+"2"); err != nil {
		t.Fatal(err)
	}
	write()
	check("another file")
}
