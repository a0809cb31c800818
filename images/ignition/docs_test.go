package ignition

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/coreos/butane/config/common"
	"github.com/coreos/butane/config/fcos/v1_4"
	"github.com/vincent-petithory/dataurl"
)

// Ignition writes the certificates, as docs/ignition.md shows, to the paths in the
// configuration in docs/operations.md.
func TestDocumentedCertificates(t *testing.T) {
	_, text, _ := strings.Cut(read(t, "../../docs/ignition.md"), "  # certificates.bu\n")
	yaml, _, found := strings.Cut(text, "  ```")
	if !found {
		t.Fatal("docs/ignition.md has no certificates.bu")
	}
	paths := regexp.MustCompile(`(?m)^  (?:ca|cert|key)File: (\S+)$`).FindAllStringSubmatch(read(t, "../../docs/operations.md"), -1)
	if len(paths) != 3 {
		t.Fatalf("docs/operations.md has the files %q, want 3", paths)
	}
	var options common.TranslateBytesOptions
	options.FilesDir, options.NoResourceAutoCompression = t.TempDir(), true
	for _, path := range paths {
		name := filepath.Base(path[1])
		if err := os.WriteFile(filepath.Join(options.FilesDir, name), []byte("the "+name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	base, problems, err := v1_4.ToIgn3_3Bytes([]byte(yaml), options)
	if err != nil || len(problems.Entries) > 0 {
		t.Fatalf("%v %v\n%s", err, problems, yaml)
	}
	r := render(t, Options{Merge: base})
	if len(r.Warnings) > 0 {
		t.Error(r.Warnings)
	}
	for _, path := range paths {
		f := find(t, r.Config, path[1])
		data, err := dataurl.DecodeString(*f.Contents.Source)
		if err != nil || string(data.Data) != "the "+filepath.Base(path[1]) || *f.Mode != 0o600 {
			t.Errorf("%s: %v, %v, mode %o", path[1], data, err, *f.Mode)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
