package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/projecteru2/firstboot/internal/host"
)

// NewerError reports a state file that a newer firstboot wrote.
type NewerError struct {
	Path   string
	Schema int
}

func (e *NewerError) Error() string {
	return fmt.Sprintf("%s has schema %d, but this firstboot supports only up to %d", e.Path, e.Schema, Schema)
}

// DamagedError reports a state file that cannot be used: it cannot be parsed, is
// too large, is not a regular file, or the disk cannot read it. A run sets it
// aside (SetAsideDamaged).
type DamagedError struct {
	Path string
	Err  error
}

func (e *DamagedError) Error() string { return fmt.Sprintf("%s is damaged: %v", e.Path, e.Err) }

func (e *DamagedError) Unwrap() error { return e.Err }

const private fs.FileMode = 0o600

// maxFile is the size in bytes of the largest state file that is written. It is
// the most that host.ReadFile reads.
const maxFile = 4 << 20

// errTooLarge means that firstboot could not read a file that it would write.
var errTooLarge = errors.New("the file would be too large")

// errNoMachine makes a file that could be valid on any machine damaged.
var errNoMachine = errors.New("it does not name a machine")

// read reads a state file. found is false if it does not exist. A missing
// permission is not a damage: another user can read the file.
func read(h *host.Host, path string) (data []byte, found bool, err error) {
	data, err = h.ReadFile(path)
	switch {
	case err == nil:
		return data, true, nil
	case host.NotExist(err):
		return nil, false, nil
	case errors.Is(err, fs.ErrPermission), !h.Exists(path):
		return nil, false, err
	}
	return nil, false, &DamagedError{path, err}
}

// record is the content of a state file.
type record interface {
	// check returns why the content cannot be used although it can be parsed.
	check() error
}

// load reads a state file into v. found is false if it does not exist or cannot
// be used.
func load(h *host.Host, path string, v record) (found bool, err error) {
	data, found, err := read(h, path)
	if err != nil || !found {
		return false, err
	}
	err = decode(path, data, v)
	return err == nil, err
}

// decode parses the content of a state file into v. After an error, v may be
// partly set.
func decode(path string, data []byte, v record) error {
	var head struct{ Schema int }
	if err := json.Unmarshal(data, &head); err != nil {
		return &DamagedError{path, err}
	}
	if head.Schema > Schema {
		return &NewerError{path, head.Schema}
	}
	if head.Schema < 1 {
		return &DamagedError{path, errors.New("it has no schema number")}
	}
	err := json.Unmarshal(data, v)
	if err == nil {
		err = v.check()
	}
	if err != nil {
		return &DamagedError{path, err}
	}
	return nil
}

// save writes a state file atomically and durably.
func save(h *host.Host, path string, v any) error {
	var data bytes.Buffer
	e := json.NewEncoder(&data)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	if data.Len() > maxFile {
		return fmt.Errorf("cannot write %s: %w: %d bytes", path, errTooLarge, data.Len())
	}
	return h.WriteFile(path, data.Bytes(), private)
}

// ReadEffective reads the saved configuration. found is false if none was saved.
func ReadEffective(h *host.Host) (data []byte, found bool, err error) { return read(h, EffectivePath) }

// DamagedPath returns the path to which a damaged file is renamed.
func DamagedPath(path string) string { return path + ".damaged" }

// SetAsideDamaged renames a damaged file. It replaces an earlier one.
func SetAsideDamaged(h *host.Host, path string) error {
	if h.Exists(DamagedPath(path)) {
		if err := h.RemoveAll(DamagedPath(path)); err != nil { // may be a directory
			return err
		}
	}
	return h.Rename(path, DamagedPath(path))
}
