package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFilesThatOthersCanChangeAreRefused: in the search path, files and their
// directories.
func TestFilesThatOthersCanChangeAreRefused(t *testing.T) {
	const dropIn = DropInDir + "/a.yaml"
	for _, c := range []struct {
		name, path string
		mode       os.FileMode
		uid        int // -1: unchanged
		want       string
	}{
		{"usual", dropIn, 0o644, -1, ""},
		{"file for every user", dropIn, 0o666, -1, dropIn + ": is writable by every user (chmod 600)"},
		{"main file for every user", MainFile, 0o602, -1, MainFile + ": is writable by every user (chmod 600)"},
		{"directory", DropInDir, 0o777, -1, DropInDir + ": is writable by every user (chmod 755)"},
		{"directory where every user can add files", DropInDir, 0o777 | os.ModeSticky, -1, DropInDir + ": is writable by every user (chmod 755)"},
		{"directory of the main file", filepath.Dir(MainFile), 0o777, -1, filepath.Dir(MainFile) + ": is writable by every user (chmod 755)"},
		{"vendor's directory", VendorDir, 0o777, -1, VendorDir + ": is writable by every user (chmod 755)"},
		{"owner of a file", dropIn, 0o600, 4321, dropIn + ": belongs to the user 4321, who can change it (chown root:root)"},
		{"owner of a directory", DropInDir, 0o755, 4321, DropInDir + ": belongs to the user 4321, who can change it (chown root:root)"},
		{"group", dropIn, 0o660, 0, dropIn + ": is writable by the group 4321 (chmod 600)"},
	} {
		if c.uid >= 0 && os.Geteuid() != 0 {
			continue // only root can change owners
		}
		root := rootWith(t, map[string]string{MainFile: minimal, dropIn: "host: {name: a}\n", VendorDir + "/v.yaml": "# none\n"})
		full := filepath.Join(root, c.path)
		if c.uid >= 0 {
			if err := os.Chown(full, c.uid, 4321); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(full, c.mode); err != nil {
			t.Fatal(err)
		}
		_, err := Load(t.Context(), Options{Root: root})
		got := ""
		if err != nil {
			if _, ok := IsInvalid(err); !ok {
				t.Errorf("%s: %v is not an invalid configuration", c.name, err)
			}
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestNamedFileOfAnotherUser: --config names a file on purpose.
func TestNamedFileOfAnotherUser(t *testing.T) {
	file := filepath.Join(rootWith(t, map[string]string{"a.yaml": minimal}), "a.yaml")
	if err := os.Chmod(file, 0o666); err != nil {
		t.Fatal(err)
	}
	l, err := Load(t.Context(), Options{Files: []string{file}})
	if err != nil || !strings.Contains(Problems(l.Warnings).Error(), "is writable by every user") {
		t.Errorf("%v", err)
	}
}
