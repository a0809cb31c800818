package parts

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func put(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// archive writes an image with one file.
func archive(t *testing.T) string {
	t.Helper()
	tr := tree{}
	tr.addText("hello", "world")
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := writeArchive(path, tr, imageConfig{Cmd: []string{"hello"}}); err != nil {
		t.Fatal(err)
	}
	return path
}

func rpm(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "minions.rpm")
	if err := writeRPM(path, []byte("program")); err != nil {
		t.Fatal(err)
	}
	return path
}

// calicoctlStub behaves like the real calicoctl: it prints its version and fails.
func calicoctlStub(t *testing.T) string {
	t.Helper()
	return put(t, "calicoctl", `#!/bin/sh
[ "$*" = "version --config=/dev/null" ] && [ "$DATASTORE_TYPE" = none ] || exit 2
echo "Client Version:    v3.27.0"
echo "cannot use the configuration" >&2
exit 1
`, 0o755)
}

func TestSuppliedPartsAreUsed(t *testing.T) {
	t.Setenv("FIRSTBOOT_CACHE", filepath.Join(t.TempDir(), "must-not-be-created"))
	o := Options{Calicoctl: calicoctlStub(t), NodeImage: archive(t), MinionsRPM: rpm(t)}
	t.Chdir(t.TempDir()) // the sources are not needed either
	p, err := Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	want := Parts{Calicoctl: o.Calicoctl, CalicoctlVersion: "v3.27.0", NodeImage: o.NodeImage, NodeImageName: ImageName, MinionsRPM: o.MinionsRPM}
	if p != want {
		t.Errorf("parts are %+v\nwant %+v", p, want)
	}
	if _, err := os.Stat(os.Getenv("FIRSTBOOT_CACHE")); err == nil {
		t.Error("a cache was created although nothing was built")
	}
}

func TestUnusablePartsAreRefusedBeforeABuild(t *testing.T) {
	t.Setenv("FIRSTBOOT_CACHE", filepath.Join(t.TempDir(), "must-not-be-created"))
	missing := filepath.Join(t.TempDir(), "none")
	for name, c := range map[string]struct {
		o    Options
		want []string
	}{
		"missing calicoctl": {Options{Calicoctl: missing}, []string{"cannot use the calicoctl: ", missing, "no such file"}},
		"directory":         {Options{NodeImage: t.TempDir()}, []string{"cannot use the node image ", "empty or not a regular file"}},
		"empty RPM":         {Options{MinionsRPM: put(t, "x.rpm", "", 0o644)}, []string{"cannot use the eru-minions RPM ", "empty or not a regular file"}},
		"not executable":    {Options{Calicoctl: put(t, "calicoctl", "x", 0o644)}, []string{"permission denied", "must be an executable calicoctl"}},
		"not calicoctl":     {Options{Calicoctl: "/bin/echo"}, []string{`it printed no client version: "version`}},
		"calicoctl dies":    {Options{Calicoctl: put(t, "calicoctl", "#!/bin/sh\necho broken >&2\nexit 3\n", 0o755)}, []string{"exit status 3", "broken"}},
		"invalid image":     {Options{NodeImage: put(t, "x.tar", "x", 0o644)}, []string{"cannot read the image archive "}},
		"invalid RPM":       {Options{MinionsRPM: put(t, "x.rpm", "x", 0o644)}, []string{"cannot read the package "}},
	} {
		_, err := Build(t.Context(), c.o)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error is %v\nwant one with %q", name, err, want)
			}
		}
	}
	if _, err := os.Stat(os.Getenv("FIRSTBOOT_CACHE")); err == nil {
		t.Error("a cache was created although nothing was built")
	}
}

func TestPackageWithAnotherNameIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "other.rpm")
	if err := writePackage(path, "other", []byte("program")); err != nil {
		t.Fatal(err)
	}
	if _, err := Build(t.Context(), Options{MinionsRPM: path}); err == nil || !strings.Contains(err.Error(), "it is the package other-0.1.0-1.lab") {
		t.Errorf("error is %v", err)
	}
}

func TestImageNameIsSelected(t *testing.T) {
	for _, c := range []struct{ tags, want string }{
		{`["mirror.example.com/node:1"]`, "mirror.example.com/node:1"},
		{`["other:1","mirror.example.com/calico/node:v3.27.0"]`, "mirror.example.com/calico/node:v3.27.0"},
		{`["other:1","another:2"]`, ""},
		{`[]`, ""},
		{`null`, ""},
	} {
		path := filepath.Join(t.TempDir(), "image.tar")
		if err := writeEntries(path, []archiveEntry{{"manifest.json", node{mode: 0o644, data: []byte(`[{"Config":"x.json","RepoTags":` + c.tags + `}]`)}}}); err != nil {
			t.Fatal(err)
		}
		name, err := imageName(path)
		if name != c.want || (err == nil) != (c.want != "") {
			t.Errorf("tags %s: %q, %v; want %q", c.tags, name, err, c.want)
		}
	}
}

func TestCanceledRunIsReported(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := calicoctlVersion(ctx, calicoctlStub(t)); err == nil || !strings.Contains(err.Error(), "was stopped") {
		t.Errorf("error is %v", err)
	}
}
