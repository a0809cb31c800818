package host_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/host"
)

// TestAProgramThatIsStillOpenIsTriedAgain: the kernel executes nothing that
// somebody has open for writing, which a command that is just being started
// may have for an instant.
func TestAProgramThatIsStillOpenIsTriedAgain(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho done\n"), 0o700); err != nil { //nolint:gosec // it is to be run
		t.Fatal(err)
	}
	f, err := os.OpenFile(program, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(200*time.Millisecond, func() { f.Close() })
	out, err := host.New("/").Query(t.Context(), host.Command{Name: program, Timeout: time.Minute})
	if err != nil || string(out.Stdout) != "done\n" {
		t.Errorf("%q, %v", out.Stdout, err)
	}
	f, err = os.OpenFile(program, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = host.New("/").Query(t.Context(), host.Command{Name: program, Timeout: time.Minute})
	if !errors.Is(err, syscall.ETXTBSY) || !strings.Contains(err.Error(), "text file busy") {
		t.Errorf("a program that stays open: %v", err)
	}
}
