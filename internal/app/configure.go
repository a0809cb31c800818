package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
)

// sources are where this command finds the configuration.
func (s *site) sources() config.Options {
	return config.Options{Root: s.Root, Files: s.Files, Cmdline: s.Cmdline, CredentialsDir: s.CredentialsDir}
}

// load reads and validates the sources. fetch may be nil: then a configuration
// by URL is an error.
func (s *site) load(ctx context.Context, fetch fetcher) (*config.Loaded, error) {
	o := s.sources()
	if fetch != nil {
		o.Fetch, o.Verify = fetch, artifact.VerifyDetachedSignature
	}
	loaded, err := config.Load(ctx, o)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, &ConfigError{err}
	}
	return loaded, nil
}

// Fresh loads the sources as the first run would, one by URL included: it waits
// for that, and tells say what for.
func LoadSources(ctx context.Context, o Options, say func(string, ...any)) (*config.Loaded, error) {
	s := &site{Options: o}
	return s.load(ctx, newFetcher(say))
}

// saved reads the configuration of the first valid load; nil where there is
// none yet.
func (s *site) saved() (*config.Loaded, error) {
	data, err := s.state.ReadFile(state.EffectivePath)
	if host.NotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, &ConfigError{readable(err)}
	}
	loaded, err := config.LoadEffective(data)
	if err != nil {
		return nil, &ConfigError{engine.WithHint(err, "firstboot run --force reads the configuration files anew")}
	}
	return loaded, nil
}

// save keeps the configuration for status and for later runs: some sources
// are gone then. It holds secrets.
func (s *site) save(loaded *config.Loaded) error {
	var b bytes.Buffer
	if err := loaded.Save(&b); err != nil {
		return fmt.Errorf("cannot save the configuration: %w", err)
	}
	return s.state.WriteFile(state.EffectivePath, b.Bytes(), 0o600)
}

// absolute makes the paths of --config mean the same from every folder.
func absolute(files []string) []string {
	var all []string
	for _, f := range files {
		if path, err := filepath.Abs(f); err == nil {
			f = path
		}
		all = append(all, f)
	}
	return all
}

// edited says in words what the sources say differently now than saved does;
// "" where that is nothing, or cannot be told. from are the files of --config
// of the load that was saved.
func (s *site) edited(ctx context.Context, saved *config.Loaded, from []string) string {
	o := s.sources()
	if len(o.Files) == 0 {
		o.Files = from
	}
	keys, err := config.ChangedKeys(ctx, o, saved)
	var problems config.Problems
	switch {
	case errors.As(err, &problems):
		return "configuration changed and is invalid now: " + problems[0].Error()
	case err != nil || len(keys) == 0:
		return ""
	case len(keys) > 5:
		keys = append(keys[:5], fmt.Sprintf("and %d more", len(keys)-5))
	}
	return "configuration changed: " + strings.Join(keys, ", ")
}

// effective is the configuration for a command that looks: the saved one, or
// what --config names, or where nothing was saved yet the sources'. fresh asks
// for the sources' in any case.
func (s *site) effective(ctx context.Context, fresh bool) (*config.Loaded, error) {
	if !fresh && len(s.Files) == 0 {
		if loaded, err := s.saved(); loaded != nil || err != nil {
			return loaded, err
		}
	}
	return s.load(ctx, nil)
}

// Configuration is the configuration in force: the saved one, or where nothing
// was saved yet (or files are named) what the sources say. edited says in
// words what the sources say differently than the saved one.
func EffectiveConfiguration(ctx context.Context, o Options) (loaded *config.Loaded, isSaved bool, edited string, err error) {
	s, err := open(o)
	if err != nil {
		return nil, false, "", err
	}
	if len(o.Files) == 0 {
		loaded, err = s.saved()
		if err != nil {
			return nil, false, "", err
		}
		if loaded != nil {
			j, _, _ := state.LoadJournal(s.state) // only for the names of files; there may be none
			return loaded, true, s.edited(ctx, loaded, j.ConfigFiles), nil
		}
	}
	loaded, err = s.load(ctx, nil)
	return loaded, false, "", err
}
