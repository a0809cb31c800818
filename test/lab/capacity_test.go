package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTooLittleMemoryIsReported(t *testing.T) {
	err := checkCapacity(t.TempDir(), 100_000)
	if err == nil || !strings.Contains(err.Error(), "cannot boot 100000 machines: they need 128000000 MB of memory") || !strings.Contains(err.Error(), "(try HOSTS=") {
		t.Errorf("100000 machines: %v", err)
	}
}

func TestAvailableMemory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "meminfo")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("MemTotal:       24649740 kB\nMemFree:          123456 kB\nMemAvailable:    2097152 kB\n")
	if mb, err := availableMB(file); mb != 2048 || err != nil {
		t.Errorf("%d MB (%v), want 2048", mb, err)
	}
	write("MemTotal: 1 kB\n")
	if _, err := availableMB(file); err == nil || !strings.Contains(err.Error(), "no MemAvailable") {
		t.Errorf("without the line: %v", err)
	}
}

func TestExistingParent(t *testing.T) {
	dir := t.TempDir()
	if got := existingParent(filepath.Join(dir, "a", "b")); got != dir {
		t.Errorf("parent of a missing directory: %s, want %s", got, dir)
	}
}
