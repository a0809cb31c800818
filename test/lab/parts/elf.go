package parts

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// libraries maps the names of the shared libraries in an unpacked root file
// system to their paths.
type libraries map[string]string

func findLibraries(root string) (libraries, error) {
	found := libraries{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); strings.Contains(name, ".so") && (d.Type().IsRegular() || d.Type()&fs.ModeSymlink != 0) {
			if _, exists := found[name]; !exists {
				found[name] = path
			}
		}
		return nil
	})
	return found, err
}

// needed returns the file names of all libraries that the programs need,
// directly and indirectly, and the loaders that start them (absolute paths in
// the image). Static programs and scripts need none.
func (l libraries) needed(programs []string) (names, loaders map[string]bool, err error) {
	names, loaders = map[string]bool{}, map[string]bool{}
	for todo := programs; len(todo) > 0; {
		file := todo[0]
		todo = todo[1:]
		imports, loader, err := imports(file)
		if err != nil {
			return nil, nil, err
		}
		if loader != "" {
			loaders[loader] = true
		}
		for _, name := range imports {
			if names[name] {
				continue
			}
			path, exists := l[name]
			if !exists {
				return nil, nil, fmt.Errorf("%s needs %s, which is in no package of the image", filepath.Base(file), name)
			}
			names[name] = true
			todo = append(todo, path)
		}
	}
	return names, loaders, nil
}

// imports returns the libraries and the loader that an ELF file names. For any
// other file it returns nothing.
func imports(path string) (libraries []string, loader string, err error) {
	f, err := elf.Open(path)
	var notELF *elf.FormatError
	if errors.As(err, &notELF) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	for _, segment := range f.Progs {
		if segment.Type != elf.PT_INTERP || segment.Filesz > 4096 {
			continue
		}
		data := make([]byte, segment.Filesz)
		if _, err := segment.ReadAt(data, 0); err != nil {
			return nil, "", fmt.Errorf("cannot read %s: %w", path, err)
		}
		loader = strings.TrimRight(string(data), "\x00")
	}
	libraries, err = f.ImportedLibraries()
	if err != nil {
		return nil, "", fmt.Errorf("cannot read %s: %w", path, err)
	}
	return libraries, loader, nil
}

// realFile resolves symbolic links inside an unpacked root file system.
// Absolute links are relative to that root.
func realFile(root, path string) (string, error) {
	for range 8 {
		target, err := os.Readlink(path)
		if err != nil {
			_, err = os.Stat(path)
			return path, err
		}
		if filepath.IsAbs(target) {
			path = filepath.Join(root, target)
		} else {
			path = filepath.Join(filepath.Dir(path), target)
		}
	}
	return "", fmt.Errorf("cannot resolve %s: too many symbolic links", path)
}
