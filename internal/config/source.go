package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	securejoin "github.com/cyphar/filepath-securejoin"
)

// Where configuration lies on a machine.
const (
	VendorDir = "/usr/lib/firstboot/config.d" // the image's maker
	MainFile  = "/etc/firstboot/config.yaml"
	DropInDir = "/etc/firstboot/config.d"

	// CredentialName is the systemd credential that is a source.
	CredentialName = "firstboot.config"
	// CmdlineName is how the kernel's command line is named as a source.
	CmdlineName = "kernel command line"

	credentialSource = "credential " + CredentialName
)

// MaxSource bounds a source, in bytes. A real configuration is a few KiB.
const MaxSource = 1 << 20

// Source is the YAML text of one source.
type Source struct {
	Name     string // path or other name, as shown to people
	Data     []byte
	nameOnly bool // its lines are not shown as origins
}

// tree reads files below the root of a machine or an image; a symbolic link
// in there means what it would mean to that machine.
type tree struct{ root string }

func (t tree) path(p string) (string, error) { return securejoin.SecureJoin(t.root, p) }

// read gives a file's bytes; found is false where there is none.
func (t tree) read(p string) (data []byte, found bool, err error) {
	full, err := t.path(p)
	if err != nil {
		return nil, false, fmt.Errorf("cannot read %s: %w", p, err)
	}
	data, err = readRegular(full)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("cannot read %s: %w", p, withoutPath(err))
	}
	return data, true, nil
}

// list gives the names in a folder, sorted.
func (t tree) list(dir string) ([]string, error) {
	full, err := t.path(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot list %s: %w", dir, err)
	}
	found, err := os.ReadDir(full)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list %s: %w", dir, withoutPath(err))
	}
	names := make([]string, len(found))
	for i, e := range found {
		names[i] = e.Name()
	}
	slices.Sort(names)
	return names, nil
}

// readRegular reads a file that must not be a pipe or a device, where reading
// could wait for ever. One byte more than MaxSource tells that it is too long.
func readRegular(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	return io.ReadAll(io.LimitReader(f, MaxSource+1))
}

// plain takes the path out of a file error: the caller names it as the
// machine does, without the root.
func withoutPath(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// searchPath reads what lies in the places of the search path, in order.
func (t tree) searchPath() (sources []Source, warnings []Problem, err error) {
	vendor, w, err := t.dropIns(VendorDir)
	if err != nil {
		return nil, nil, err
	}
	sources, warnings = vendor, w
	data, found, err := t.read(MainFile)
	if err != nil {
		return nil, nil, err
	}
	if found {
		sources = append(sources, Source{Name: MainFile, Data: data})
	}
	local, w, err := t.dropIns(DropInDir)
	return append(sources, local...), append(warnings, w...), err
}

// dropIns reads the *.yaml of a folder by name. A file that someone may take
// for a drop-in, and that is none, is worth a warning.
func (t tree) dropIns(dir string) (sources []Source, warnings []Problem, err error) {
	names, err := t.list(dir)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		path := filepath.Join(dir, name)
		switch ext := filepath.Ext(name); {
		case strings.HasPrefix(name, "."):
		case ext == ".yml" || ext == ".json":
			warnings = append(warnings, Problem{File: path, Message: "is not read", Hint: "only *.yaml is: rename it"})
		case ext == ".yaml":
			data, found, err := t.read(path)
			if err != nil {
				return nil, nil, err
			}
			if !found {
				return nil, nil, fmt.Errorf("cannot read %s: a link to nothing", path)
			}
			sources = append(sources, Source{Name: path, Data: data})
		}
	}
	return sources, warnings, nil
}

// explicit reads the files named by --config; they must exist, and may be a
// pipe.
func readFiles(files []string) ([]Source, error) {
	var sources []Source
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", name, withoutPath(err))
		}
		data, err := io.ReadAll(io.LimitReader(f, MaxSource+1))
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", name, withoutPath(err))
		}
		sources = append(sources, Source{Name: name, Data: data})
	}
	return sources, nil
}
