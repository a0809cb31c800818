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

// Where a machine keeps its configuration.
const (
	VendorDir = "/usr/lib/firstboot/config.d" // part of the image
	MainFile  = "/etc/firstboot/config.yaml"
	DropInDir = "/etc/firstboot/config.d"

	// CredentialName is the name of the systemd credential that is a source.
	CredentialName = "firstboot.config"
	// CmdlineName is the source name of the kernel command line.
	CmdlineName = "kernel command line"

	credentialSource = "credential " + CredentialName
)

// MaxSource limits the size of a source, in bytes. A real configuration has a
// few KiB.
const MaxSource = 1e6

// Source is the YAML text of one source.
type Source struct {
	Name     string // path or other name, as shown to people
	Data     []byte
	nameOnly bool // origins show its name without line and column
}

// tree reads files below the root directory of a machine or an image. Symbolic
// links are resolved inside the root directory.
type tree struct{ root string }

func (t tree) path(p string) (string, error) { return securejoin.SecureJoin(t.root, p) }

// read returns a file's contents. found is false if the file does not exist.
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

// list returns the sorted names in a directory.
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

// readRegular reads a regular file. It refuses pipes and devices, where reading
// could block forever. Of a file that is too large it returns MaxSource+1
// bytes.
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

// withoutPath removes the path from a file error: the caller adds the path
// without the root directory.
func withoutPath(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// searchPath reads the files of the search path, in order.
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

// dropIns reads the *.yaml files of a directory, sorted by name. It warns about
// files that look like drop-ins and are not read.
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
			warnings = append(warnings, Problem{File: path, Message: "is not read", Hint: "rename it to *.yaml"})
		case ext == ".yaml":
			data, found, err := t.read(path)
			if err != nil {
				return nil, nil, err
			}
			if !found {
				return nil, nil, fmt.Errorf("cannot read %s: dangling symbolic link", path)
			}
			sources = append(sources, Source{Name: path, Data: data})
		}
	}
	return sources, warnings, nil
}

// readFiles reads the files named by --config. They must exist; pipes are
// allowed.
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
