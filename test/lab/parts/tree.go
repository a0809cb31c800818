package parts

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// tree is the file system of an image. Its keys are paths without a leading slash.
type tree map[string]node

// node is a directory, a symbolic link, or a file.
type node struct {
	mode fs.FileMode // type and permissions
	link string      // target of a symbolic link
	from string      // path of the contents on this machine; empty: data
	data []byte
}

// mergedDirs lists the directories that are links into usr, as in Debian.
func mergedDirs() []string { return []string{"bin", "sbin", "lib", "lib64"} }

// clean converts a path in a package to the path in the image.
func clean(name string) string {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if top, _, _ := strings.Cut(name, "/"); slices.Contains(mergedDirs(), top) {
		return "usr/" + name
	}
	return name
}

// add adds a node and its parent directories.
func (t tree) add(name string, n node) {
	name = clean(name)
	t[name] = n
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if _, exists := t[dir]; !exists {
			t[dir] = node{mode: fs.ModeDir | 0o755}
		}
	}
}

func (t tree) addEmptyDir(name string, perm fs.FileMode) { t.add(name, node{mode: fs.ModeDir | perm}) }
func (t tree) addSymlink(name, target string) {
	t.add(name, node{mode: fs.ModeSymlink | 0o777, link: target})
}
func (t tree) addFile(name, from string, perm fs.FileMode) {
	t.add(name, node{mode: perm, from: from})
}
func (t tree) addText(name, text string) { t.add(name, node{mode: 0o644, data: []byte(text)}) }

// addDir adds a directory and everything below it. Go modules do not store
// permissions, so perm returns them for each file.
func (t tree) addDir(name, from string, perm func(file string) fs.FileMode) error {
	return filepath.WalkDir(from, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(from, file)
		if err != nil {
			return err
		}
		if d.IsDir() {
			t.addEmptyDir(path.Join(name, below), 0o755)
			return nil
		}
		t.addFile(path.Join(name, below), file, perm(below))
		return nil
	})
}

// has reports whether the image has a program of this name.
func (t tree) has(program string) bool {
	for _, dir := range []string{"usr/bin/", "usr/sbin/"} {
		if _, exists := t[dir+program]; exists {
			return true
		}
	}
	return false
}

// write writes the tree as a tar archive. The same tree always gives the same
// bytes: entries are sorted, owned by root, and have the same time.
func (t tree) write(w io.Writer) error {
	out := tar.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(t)) {
		if err := t[name].write(out, name); err != nil {
			return fmt.Errorf("cannot pack %s: %w", name, err)
		}
	}
	return out.Close()
}

func (n node) write(out *tar.Writer, name string) error {
	header := &tar.Header{Name: name, Mode: int64(n.mode.Perm()), ModTime: imageTime(), Format: tar.FormatUSTAR}
	if n.mode&fs.ModeSticky != 0 {
		header.Mode |= 0o1000
	}
	switch {
	case n.mode.IsDir():
		header.Typeflag, header.Name = tar.TypeDir, name+"/"
		return out.WriteHeader(header)
	case n.mode&fs.ModeSymlink != 0:
		header.Typeflag, header.Linkname = tar.TypeSymlink, n.link
		return out.WriteHeader(header)
	}
	header.Typeflag = tar.TypeReg
	if n.from == "" {
		header.Size = int64(len(n.data))
		if err := out.WriteHeader(header); err != nil {
			return err
		}
		_, err := out.Write(n.data)
		return err
	}
	f, err := os.Open(n.from)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	header.Size = info.Size()
	if err := out.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(out, f)
	return err
}

// imageTime is the modification time of all files in the image: the time of Calico's commit.
func imageTime() time.Time { return time.Date(2022, 5, 9, 19, 11, 50, 0, time.UTC) }
