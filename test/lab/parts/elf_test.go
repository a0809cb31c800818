package parts

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// These tests use a program and the libraries of this machine.

func TestNeededFindsAllLibrariesOfAProgram(t *testing.T) {
	names, loaders, err := libraries{
		"libtinfo.so.6": realLibrary(t, "libtinfo.so.6"), "libc.so.6": realLibrary(t, "libc.so.6"),
		"ld-linux-x86-64.so.2": realLibrary(t, "ld-linux-x86-64.so.2"), "ld-linux-aarch64.so.1": "",
	}.needed([]string{"/bin/bash"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"libtinfo.so.6", "libc.so.6"} {
		if !names[want] {
			t.Errorf("libraries of bash are %v, want also %s", slices.Sorted(maps.Keys(names)), want)
		}
	}
	if len(loaders) != 1 {
		t.Errorf("loaders: %v", loaders)
	}
}

func TestNeededNamesAMissingLibrary(t *testing.T) {
	_, _, err := libraries{}.needed([]string{"/bin/bash"})
	if err == nil || !strings.HasPrefix(err.Error(), "bash needs lib") || !strings.Contains(err.Error(), "is in no package of the image") {
		t.Errorf("error is %v", err)
	}
}

func TestScriptsNeedNoLibraries(t *testing.T) {
	names, loaders, err := libraries{}.needed([]string{put(t, "script", "#!/bin/sh\necho a script\n", 0o755)})
	if err != nil || len(names)+len(loaders) != 0 {
		t.Errorf("%v, %v, %v", names, loaders, err)
	}
}

func TestRealFileResolvesLinksInsideTheRoot(t *testing.T) {
	root := t.TempDir()
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(os.WriteFile(filepath.Join(root, "file"), nil, 0o644))
	do(os.Symlink("/file", filepath.Join(root, "absolute")))
	do(os.Symlink("absolute", filepath.Join(root, "relative")))
	do(os.Symlink("loop", filepath.Join(root, "loop")))
	if got, err := realFile(root, filepath.Join(root, "relative")); err != nil || got != filepath.Join(root, "file") {
		t.Errorf("realFile returns %s, %v", got, err)
	}
	if _, err := realFile(root, filepath.Join(root, "loop")); err == nil {
		t.Error("realFile accepts a loop of links")
	}
}

func realLibrary(t *testing.T, name string) string {
	t.Helper()
	found, err := filepath.Glob("/lib/*-linux-gnu/" + name)
	if err != nil || len(found) == 0 {
		if strings.HasPrefix(name, "ld-") {
			return ""
		}
		t.Fatalf("cannot find %s on this machine", name)
	}
	return found[0]
}
