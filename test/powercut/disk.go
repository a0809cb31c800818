package powercut

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/projecteru2/firstboot/internal/host"
)

// file is what a name leads to.
type file struct {
	mode fs.FileMode
	data []byte
	link string
}

// inode is a file, directory or link, whatever its name. synced is what is
// certainly on the disk.
type inode struct {
	now, synced file
	dirty       bool // now differs from synced
}

// nameChange is a change of names that is not synced: names get another inode, or
// none. All of it reaches the disk, or nothing.
type nameChange struct{ names map[string]*inode }

// touches reports whether the change is in a directory.
func (c nameChange) touches(dir string) bool {
	for name := range c.names {
		if path.Dir(name) == dir {
			return true
		}
	}
	return false
}

// disk is a file system: what is certainly on the disk, the changes that may be,
// in their order, and the names as the running system has them.
type disk struct {
	synced  map[string]*inode
	pending []nameChange
	now     map[string]*inode
}

// readDisk reads the files below root.
func readDisk(root string) (*disk, error) {
	d := &disk{synced: map[string]*inode{}}
	err := filepath.WalkDir(root, func(at string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		f := file{mode: info.Mode()}
		switch {
		case info.Mode().IsRegular():
			f.data, err = os.ReadFile(at)
		case info.Mode().Type() == fs.ModeSymlink:
			f.link, err = os.Readlink(at)
		case !info.IsDir():
			return nil // sockets and devices are not replayed
		}
		d.synced[path.Join("/", strings.TrimPrefix(at, root))] = &inode{now: f, synced: f}
		return err
	})
	d.now = maps.Clone(d.synced)
	return d, err
}

func (d *disk) clone() *disk {
	c := &disk{synced: map[string]*inode{}}
	for name, n := range d.synced {
		copied := *n
		c.synced[name] = &copied
	}
	c.now = maps.Clone(c.synced)
	return c
}

// apply makes a recorded operation.
func (d *disk) apply(op host.FileOp) {
	n := d.now[op.Path]
	switch op.Kind {
	case host.OpCreate:
		if n == nil {
			d.link(op.Path, &inode{now: file{mode: op.Mode}, synced: file{mode: op.Mode}})
			return
		}
		n.now.data, n.dirty = nil, true
	case host.OpWrite:
		n.now.data, n.dirty = append(append([]byte(nil), n.now.data...), op.Data...), true
	case host.OpChmod:
		n.now.mode, n.dirty = n.now.mode.Type()|op.Mode, n.dirty || !n.now.mode.IsDir()
		if n.now.mode.IsDir() {
			n.synced = n.now // a file system writes it with the directory
		}
	case host.OpSyncFile:
		n.synced, n.dirty = n.now, false
	case host.OpSyncDir:
		d.sync(op.Path)
	case host.OpRename:
		moved := map[string]*inode{}
		for name, node := range d.now {
			if rest, below := strings.CutPrefix(name, op.Path+"/"); below {
				moved[op.To+"/"+rest], moved[name] = node, nil
			}
		}
		moved[op.To], moved[op.Path] = n, nil
		d.change(moved)
	case host.OpRemove:
		d.change(map[string]*inode{op.Path: nil})
	case host.OpMkdir:
		f := file{mode: fs.ModeDir | op.Mode}
		d.link(op.Path, &inode{now: f, synced: f})
	case host.OpSymlink:
		f := file{mode: fs.ModeSymlink, link: op.To}
		d.link(op.Path, &inode{now: f, synced: f})
	default:
		panic(fmt.Sprintf("unknown operation %q", op.Kind))
	}
}

func (d *disk) link(name string, n *inode) { d.change(map[string]*inode{name: n}) }

func (d *disk) change(names map[string]*inode) {
	set(d.now, names)
	d.pending = append(d.pending, nameChange{names})
}

// set changes names in a directory tree.
func set(tree map[string]*inode, names map[string]*inode) {
	for name, n := range names {
		if n == nil {
			delete(tree, name)
		} else {
			tree[name] = n
		}
	}
}

// sync makes the changes in a directory durable.
func (d *disk) sync(dir string) {
	var rest []nameChange
	for _, c := range d.pending {
		if c.touches(dir) {
			set(d.synced, c.names)
		} else {
			rest = append(rest, c)
		}
	}
	d.pending = rest
}

// variant is one of the file systems that can exist after a power cut.
type variant struct {
	name  string
	files map[string]file
}

// maxSubsets bounds for how many pending changes every subset is tried. For more,
// one change at a time is left out or made alone.
const maxSubsets = 3

// variants returns the file systems that a power cut can leave behind now.
func (d *disk) variants() []variant {
	var all []variant
	for _, chosen := range subsets(len(d.pending)) {
		tree := maps.Clone(d.synced)
		for i, c := range d.pending {
			if chosen[i] {
				set(tree, c.names)
			}
		}
		names := fmt.Sprintf("unsynced names %v", chosen)
		for _, content := range []string{"complete", "lost", "torn"} {
			all = append(all, variant{names + ", unsynced content " + content, contents(tree, content)})
		}
	}
	return all
}

// subsets returns which of n changes reach the disk.
func subsets(n int) [][]bool {
	var all [][]bool
	if n <= maxSubsets {
		for bits := range 1 << n {
			chosen := make([]bool, n)
			for i := range chosen {
				chosen[i] = bits&(1<<i) != 0
			}
			all = append(all, chosen)
		}
		return all
	}
	for except := range n {
		one, others := make([]bool, n), make([]bool, n)
		for i := range n {
			one[i], others[i] = i == except, i != except
		}
		all = append(all, one, others)
	}
	whole := make([]bool, n)
	for i := range whole {
		whole[i] = true
	}
	return append(all, make([]bool, n), whole)
}

// contents returns the files of a tree, without those in directories that are not
// on the disk.
func contents(tree map[string]*inode, content string) map[string]file {
	files := map[string]file{}
	for name, n := range tree {
		if !reachable(tree, name) {
			continue
		}
		f := n.now
		if n.dirty && content != "complete" {
			f = n.synced
			if half := len(n.now.data) / 2; content == "torn" {
				f.data = n.now.data[:half]
			}
		}
		files[name] = f
	}
	return files
}

func reachable(tree map[string]*inode, name string) bool {
	for name != "/" {
		name = path.Dir(name)
		if n := tree[name]; n == nil || !n.now.mode.IsDir() {
			return false
		}
	}
	return true
}
