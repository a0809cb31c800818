package config

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// minimal is the shortest valid configuration.
const minimal = "etcd:\n  endpoints: [http://10.0.0.1:2379]\npool:\n  cidr: 10.213.0.0/16\n"

// sampleDigest is a valid sha256 digest.
const sampleDigest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// rootWith returns a root directory with these files (path → text).
func rootWith(t testing.TB, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for path, text := range files {
		full := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// loadText loads one main file.
func loadText(t testing.TB, text string) (*Loaded, error) {
	t.Helper()
	return Load(t.Context(), Options{Root: rootWith(t, map[string]string{MainFile: text})})
}

// mustLoad loads a configuration that must be valid.
func mustLoad(t testing.TB, o Options) *Loaded {
	t.Helper()
	l, err := Load(t.Context(), o)
	if err != nil {
		t.Fatalf("cannot load: %v", err)
	}
	return l
}

// problemLines returns the problems of a main file, without the file name.
func problemLines(t testing.TB, text string) []string {
	t.Helper()
	_, err := loadText(t, text)
	if err == nil {
		return nil
	}
	problems, ok := IsInvalid(err)
	if !ok {
		t.Fatalf("not a problem of the configuration: %v", err)
	}
	var lines []string
	for _, p := range problems {
		lines = append(lines, strings.TrimPrefix(p.Error(), MainFile+":"))
	}
	return lines
}

// sha256Hex returns the sha256 digest of a text.
func sha256Hex(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }
