package cache

import (
	"os"
	"path/filepath"
	"testing"
)

func TestKeysOfDifferentInputsDiffer(t *testing.T) {
	if first, again := Key("a", "b"), Key("a", "b"); first != again || !isKey(first) {
		t.Errorf("the same inputs have the keys %q and %q", first, again)
	}
	seen := map[string][]string{}
	for _, inputs := range [][]string{{}, {""}, {"ab"}, {"a", "b"}, {"b", "a"}, {"a", "b", ""}, {"1:a"}} {
		k := Key(inputs...)
		if other, exists := seen[k]; exists {
			t.Errorf("%q and %q have the same key", inputs, other)
		}
		seen[k] = inputs
	}
}

func TestContentsDependOnEverything(t *testing.T) {
	root := filepath.Join(t.TempDir(), "tree")
	if err := os.MkdirAll(filepath.Join(root, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(root, "sub", "f")
	link := filepath.Join(root, "link")
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	contents := func() string {
		t.Helper()
		digest, err := Contents(root)
		do(err)
		return digest
	}
	do(os.WriteFile(file, []byte("a"), 0o644))
	do(os.Symlink("sub", link))
	last := contents()
	if contents() != last {
		t.Fatal("the same tree has two digests")
	}
	for what, change := range map[string]func() error{
		"bytes":      func() error { return os.WriteFile(file, []byte("b"), 0o644) },
		"executable": func() error { return os.Chmod(file, 0o755) },
		"name":       func() error { return os.Rename(file, file+"2") },
		"link":       func() error { os.Remove(link); return os.Symlink("other", link) },
	} {
		do(os.WriteFile(file, []byte("a"), 0o644))
		do(os.Chmod(file, 0o644))
		last = contents()
		do(change())
		if contents() == last {
			t.Errorf("the digest does not depend on the %s", what)
		}
		os.Rename(file+"2", file)
	}
	last = contents()
	do(os.WriteFile(filepath.Join(root, ".swp"), nil, 0o644))
	if contents() != last {
		t.Error("the digest depends on a file that starts with a dot")
	}
	if _, err := Contents(root + "-none"); err == nil {
		t.Error("a missing directory has a digest")
	}
}
