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

// libraries are the shared libraries in an unpacked root, by file name, which
// for those in use is the name that programs ask for.
type libraries map[string]string

func findLibraries(root string) (libraries, error) {
	found := libraries{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); strings.Contains(name, ".so") && (d.Type().IsRegular() || d.Type()&fs.ModeSymlink != 0) {
			if _, there := found[name]; !there {
				found[name] = path
			}
		}
		return nil
	})
	return found, err
}

// needed walks what programs ask for, and what that asks for, and returns the
// file names of all libraries in the end, and the loaders that start them
// (absolute paths in the image). Static programs and scripts need none.
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
			path, there := l[name]
			if !there {
				return nil, nil, fmt.Errorf("%s needs %s, which no package of the image holds", filepath.Base(file), name)
			}
			names[name] = true
			todo = append(todo, path)
		}
	}
	return names, loaders, nil
}

// imports is what the loader would look at: the libraries that a file asks
// for, and the loader that it asks for.
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
			return nil, "", fmt.Errorf("%s: %w", path, err)
		}
		loader = strings.TrimRight(string(data), "\x00")
	}
	libraries, err = f.ImportedLibraries()
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", path, err)
	}
	return libraries, loader, nil
}

// realFile follows links inside an unpacked root, absolute ones too, to a
// regular file.
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
	return "", fmt.Errorf("%s: too many links", path)
}
