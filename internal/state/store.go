package state

import (
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

// DamagedError reports a state file that cannot be parsed.
type DamagedError struct {
	Path string
	Err  error
}

func (e *DamagedError) Error() string { return fmt.Sprintf("%s is damaged: %v", e.Path, e.Err) }

func (e *DamagedError) Unwrap() error { return e.Err }

const private fs.FileMode = 0o600

// load reads a state file into v. found is false if it does not exist.
func load(h *host.Host, path string, v any) (found bool, err error) {
	data, err := h.ReadFile(path)
	if host.NotExist(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var head struct{ Schema int }
	if err := json.Unmarshal(data, &head); err != nil {
		return false, &DamagedError{path, err}
	}
	if head.Schema > Schema {
		return false, &NewerError{path, head.Schema}
	}
	if head.Schema < 1 {
		return false, &DamagedError{path, errors.New("it has no schema number")}
	}
	if err := json.Unmarshal(data, v); err != nil {
		return false, &DamagedError{path, err}
	}
	return true, nil
}

// save writes a state file atomically and durably.
func save(h *host.Host, path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	return h.WriteFile(path, append(data, '\n'), private)
}
