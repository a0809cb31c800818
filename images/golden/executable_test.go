package golden

import (
	"bytes"
	"debug/elf"
	"os"
	"slices"
	"testing"
)

// TestArchitectureAgreesWithTheStandardLibrary compares programs of this machine.
func TestArchitectureAgreesWithTheStandardLibrary(t *testing.T) {
	for _, path := range []string{"/proc/self/exe", "/bin/sh", "/usr/bin/env"} {
		f, err := elf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		wantDynamic := slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
		name, dynamic, err := architecture(path)
		if want := architectureName(f.Machine, f.Class); err != nil || name != want || dynamic != wantDynamic {
			t.Errorf("%s: %s, dynamic %t, %v; want %s, dynamic %t", path, name, dynamic, err, want, wantDynamic)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestOtherFilesAreNotExecutables(t *testing.T) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"empty": nil, "script": []byte("#!/bin/sh\nexit 0\n# long enough for a header\n"), "identification only": self[:elf.EI_NIDENT],
		"without program headers": self[:64],
	} {
		if got, _, err := readArchitecture(bytes.NewReader(data)); err == nil {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func FuzzArchitecture(f *testing.F) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(self[:1024])
	big := slices.Clone(self[:1024])
	big[elf.EI_DATA] = byte(elf.ELFDATA2MSB)
	f.Add(big)
	f.Fuzz(func(t *testing.T, data []byte) {
		name, _, err := readArchitecture(bytes.NewReader(data))
		if (err == nil) != (name != "") {
			t.Errorf("%q, %v", name, err)
		}
	})
}
