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

// TestBusyProgramIsRetried: the kernel does not execute a file that is open for
// writing, and a command that is being started can hold it open for an instant.
func TestBusyProgramIsRetried(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho done\n"), 0o700); err != nil { //nolint:gosec // it is executed
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
	stillOpen, err := os.OpenFile(program, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer stillOpen.Close()
	_, err = host.New("/").Query(t.Context(), host.Command{Name: program, Timeout: time.Minute})
	if !errors.Is(err, syscall.ETXTBSY) || !strings.Contains(err.Error(), "text file busy") {
		t.Errorf("a program that stays open: %v", err)
	}
}
