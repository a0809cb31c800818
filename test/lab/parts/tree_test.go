package parts

import (
	"archive/tar"
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/internal/artifact"
)

// listing returns one line per file of a tar archive.
func listing(t *testing.T, data []byte) []string {
	t.Helper()
	var lines []string
	for archive := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := archive.Next()
		if err == io.EOF {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.Equal(imageTime()) {
			t.Errorf("the time of %s is %s, want %s", h.Name, h.ModTime, imageTime())
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, strings.TrimSpace(h.FileInfo().Mode().String()+" "+h.Name+" "+h.Linkname+string(text)))
	}
}

func TestPackedTreeIsReproducible(t *testing.T) {
	pack := func() []byte {
		tr := tree{"bin": {mode: fs.ModeSymlink | 0o777, link: "usr/bin"}}
		tr.addText("etc/b", "B")
		tr.addText("/etc/a", "A")
		tr.addFile("bin/program", put(t, "x", "run", 0o600), 0o755)
		tr.addSymlink("sbin/link", "../bin/program")
		tr.addEmptyDir("tmp", fs.ModeSticky|0o777)
		var out bytes.Buffer
		if err := tr.write(&out); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	first := pack()
	if !bytes.Equal(first, pack()) {
		t.Error("two archives of the same tree differ")
	}
	if diff := cmp.Diff([]string{
		"Lrwxrwxrwx bin usr/bin",
		"drwxr-xr-x etc/",
		"-rw-r--r-- etc/a A",
		"-rw-r--r-- etc/b B",
		"dtrwxrwxrwx tmp/",
		"drwxr-xr-x usr/",
		"drwxr-xr-x usr/bin/",
		"-rwxr-xr-x usr/bin/program run",
		"drwxr-xr-x usr/sbin/",
		"Lrwxrwxrwx usr/sbin/link ../bin/program",
	}, listing(t, first)); diff != "" {
		t.Error(diff)
	}
}

func TestArchiveHasTheFormatOfDockerSave(t *testing.T) {
	path := archive(t)
	image, err := artifact.ReadImageArchive(path)
	if err != nil || len(image.Tags) != 1 || image.Tags[0] != ImageName || len(image.IDs) != 1 || !strings.HasPrefix(image.IDs[0], "sha256:") {
		t.Errorf("tags %q, IDs %q, %v", image.Tags, image.IDs, err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if files := listing(t, data); len(files) != 3 || !strings.Contains(files[2], "/layer.tar") {
		t.Errorf("files: %q", files)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("files in the archive's directory: %v, %v", left, err)
	}
}

func TestPackageOfTheStandIn(t *testing.T) {
	p, err := artifact.ReadPackage(rpm(t))
	if err != nil {
		t.Fatal(err)
	}
	want := artifact.Package{Name: "eru-minions", Version: "0.1.0", Release: "1.lab", Arch: rpmArch(), Scriptlets: []string{"post"}}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Error(diff)
	}
}

func TestDeclareTunnel(t *testing.T) {
	template := func(text string) tree {
		tr := tree{}
		tr.addFile(poolFilter, put(t, "template", text, 0o644), 0o644)
		return tr
	}
	tr := template("a\n" + filterStart + "  krt_tunnel = \"\";\n}\n")
	if err := declareTunnel(tr); err != nil {
		t.Fatal(err)
	}
	if got, want := string(tr[poolFilter].data), "a\nfilter calico_kernel_programming\nstring krt_tunnel;\n{\n  krt_tunnel = \"\";\n}\n"; got != want {
		t.Errorf("the template is\n%s", got)
	}
	for _, text := range []string{"", filterStart + filterStart} {
		if err := declareTunnel(template(text)); err == nil || !strings.Contains(err.Error(), "want once") {
			t.Errorf("a template %q: %v", text, err)
		}
	}
}
