package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/certificate"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/units"
)

// sources returns where this command finds the configuration.
func (m *machine) sources() config.Options {
	return config.Options{
		Root: m.Root, Files: m.Files, Cmdline: m.Cmdline, CredentialsDir: m.CredentialsDir,
		CommonName: func(path string) (string, error) { return certificate.CommonName(host.New(m.Root).RealPath(path)) },
	}
}

// loadLocal reads and validates the sources. A configuration by URL is an error.
func (m *machine) loadLocal(ctx context.Context) (*config.Loaded, error) {
	return load(ctx, m.sources())
}

// load reads and validates the sources. It waits for a configuration by URL, and
// prints what it waits for.
func (m *machine) load(ctx context.Context, printf func(string, ...any)) (*config.Loaded, error) {
	o := m.sources()
	o.Fetch, o.Verify = fetcher{m.Transport, printf}.fetch, artifact.VerifyDetachedSignature
	return load(ctx, o)
}

func load(ctx context.Context, o config.Options) (*config.Loaded, error) {
	loaded, err := config.Load(ctx, o)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, &ConfigError{err}
	}
	return loaded, nil
}

// LoadSources loads the sources like the first run does. It waits for a
// configuration by URL; printf prints what it waits for.
func LoadSources(ctx context.Context, o Options, printf func(string, ...any)) (*config.Loaded, error) {
	m := &machine{Options: o}
	return m.load(ctx, printf)
}

// saved reads the configuration of the first valid load. It returns nil if none was
// saved, and a *state.DamagedError if it cannot be used.
func (m *machine) saved() (*config.Loaded, error) {
	data, found, err := state.ReadEffective(m.state)
	if errors.Is(err, fs.ErrPermission) {
		return nil, withStateHint(err)
	}
	if err != nil || !found {
		return nil, engine.WithHint(withStateHint(err), readAgainHint)
	}
	loaded, err := config.LoadEffective(data)
	switch {
	case err == nil:
		return loaded, nil
	case otherFormat(err):
		return nil, &ConfigError{engine.WithHint(err, readAgainHint)}
	}
	return nil, engine.WithHint(&state.DamagedError{Path: state.EffectivePath, Err: err}, readAgainHint)
}

// otherFormat reports whether a saved configuration has another format version,
// which a newer firstboot writes. Such a file is not damaged.
func otherFormat(err error) bool {
	var problems config.Problems
	return errors.As(err, &problems) && problems[0].Path == "effective"
}

// savedOrSetAside is saved for a run: it sets a damaged file aside, and the run
// reads the sources again.
func (r *run) savedOrSetAside() (*config.Loaded, error) {
	loaded, err := r.saved()
	var damaged *state.DamagedError
	if !errors.As(err, &damaged) {
		return loaded, err
	}
	if err := state.SetAsideDamaged(r.state, damaged.Path); err != nil {
		return nil, err
	}
	r.printf("%v; it was renamed to %s, and the configuration files are read again", damaged, state.DamagedPath(damaged.Path))
	return nil, nil
}

// readAgainHint helps if the saved configuration is missing or damaged.
const readAgainHint = "firstboot run --force reads the configuration files again"

// save saves the configuration, secrets included, for status and later runs.
// Some sources do not exist any more by then.
func (r *run) save(ctx context.Context, loaded *config.Loaded) error {
	var b bytes.Buffer
	if err := loaded.Save(&b); err != nil {
		return fmt.Errorf("cannot save the configuration: %w", err)
	}
	// A new file restarts the tunnel to etcd.
	have, found, err := state.ReadEffective(r.state)
	switch {
	case err == nil && found && bytes.Equal(have, b.Bytes()):
		return nil
	case err == nil && found:
		if err := r.noteTunnel(ctx); err != nil {
			return err
		}
	}
	return r.state.WriteFile(state.EffectivePath, b.Bytes(), 0o600)
}

// noteTunnel notes that a running tunnel to etcd must be restarted, because its
// configuration is about to change.
func (r *run) noteTunnel(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, unitTimeout)
	defer cancel()
	unit, err := r.state.Systemd().Unit(ctx, units.EtcdTunnel)
	if err != nil || unit.Active != "active" {
		return nil // without systemd there is no tunnel
	}
	return r.recorder.SetNotes(func(n *state.Notes) { n.SetOutdated(units.EtcdTunnel, unit.Since) })
}

// absolutePaths makes the paths of --config independent of the working directory.
func absolutePaths(files []string) []string {
	var all []string
	for _, f := range files {
		if path, err := filepath.Abs(f); err == nil {
			f = path
		}
		all = append(all, f)
	}
	return all
}

// configChange describes how the sources differ from the saved configuration.
// It returns "" if they do not, or if they cannot be read. savedFrom are the
// files of --config from which the saved configuration was loaded.
func (m *machine) configChange(ctx context.Context, saved *config.Loaded, savedFrom []string) string {
	o := m.sources()
	if len(o.Files) == 0 {
		o.Files = savedFrom
	}
	keys, err := config.ChangedKeys(ctx, o, saved)
	var problems config.Problems
	switch {
	case errors.As(err, &problems):
		return "configuration changed and is now invalid: " + problems[0].Error()
	case err != nil || len(keys) == 0:
		return ""
	}
	return "configuration changed: " + strings.Join(firstKeys(keys), ", ")
}

// effective returns the configuration for a command that only checks: the saved
// one, unless --config or fresh is set, none was saved or it is damaged; then the
// sources', as a run does.
func (m *machine) effective(ctx context.Context, fresh bool) (*config.Loaded, error) {
	if !fresh && len(m.Files) == 0 {
		var damaged *state.DamagedError
		if loaded, err := m.saved(); loaded != nil || err != nil && !errors.As(err, &damaged) {
			return loaded, err
		}
	}
	return m.loadLocal(ctx)
}

// EffectiveConfiguration returns the saved configuration, or that of the sources
// if none was saved or if files are named. change describes how the sources
// differ from the saved configuration.
func EffectiveConfiguration(ctx context.Context, o Options) (loaded *config.Loaded, isSaved bool, change string, err error) {
	m, err := open(o)
	if err != nil {
		return nil, false, "", err
	}
	if len(o.Files) == 0 {
		var damaged *state.DamagedError
		loaded, err = m.saved()
		if err != nil && !errors.As(err, &damaged) {
			return nil, false, "", err
		}
		if loaded != nil {
			j, _, _ := state.LoadJournal(m.state) // only for ConfigFiles; it may not exist
			return loaded, true, m.configChange(ctx, loaded, j.ConfigFiles), nil
		}
	}
	loaded, err = m.loadLocal(ctx)
	return loaded, false, "", err
}
