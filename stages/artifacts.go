package stages

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/fault"
)

// The names of the artifacts, in bundles and in output.
const (
	calicoctlName = "calicoctl"
	imageName     = "node-image"
	minionsName   = "eru-minions"
)

// References lists every artifact that the configuration names. The URLs may
// contain credentials.
func (e *Env) References() []artifact.Ref {
	c := e.Config
	return []artifact.Ref{
		{Name: calicoctlName, URL: c.Calicoctl.URL.Reveal(), SHA256: c.Calicoctl.SHA256},
		{Name: imageName, URL: c.Node.URL.Reveal(), SHA256: c.Node.SHA256},
		{Name: minionsName, URL: c.Minions.URL.Reveal(), SHA256: c.Minions.SHA256},
	}
}

func (e *Env) reference(name string) artifact.Ref {
	for _, r := range e.References() {
		if r.Name == name {
			return r
		}
	}
	return artifact.Ref{Name: name}
}

// Prefetch fetches every artifact that has a URL, in parallel, so that the
// stages find them in the cache. It ignores errors: the stage that needs the
// artifact fetches it again and reports the error.
func (e *Env) Prefetch(ctx context.Context) {
	var fetches sync.WaitGroup
	for _, ref := range e.References() {
		if ref.URL == "" || e.isPresent(ctx, ref.Name) {
			continue
		}
		fetches.Go(func() { _, _ = e.getArtifact(ctx, ref.Name, func(string, int64, int64) {}) })
	}
	fetches.Wait()
}

// isPresent reports whether the machine already has what the artifact provides.
func (e *Env) isPresent(ctx context.Context, name string) bool {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	var f engine.CheckResult
	var err error
	switch name {
	case calicoctlName:
		f, err = e.checkCalicoctl(ctx)
	case minionsName:
		err = e.comparePackage(ctx, e.lastChangedFiles, &f)
	default:
		if f, err = e.dockerActive(ctx); err == nil && f.OK() {
			err = e.checkImage(ctx, &f)
		}
	}
	return err == nil && f.OK()
}

// getArtifact returns the path of a verified artifact from a bundle, the cache
// or its URL. It returns a *engine.Wait if a download fails and may succeed
// later. A wrong file is a permanent error.
func (e *Env) getArtifact(ctx context.Context, name string, report engine.Progress) (string, error) {
	ref := e.reference(name)
	if ref.URL == "" && ref.SHA256 == "" {
		path, err := e.Store.Bundled(name)
		if err != nil {
			return "", engine.WithHint(err, "set %s.url and %[1]s.sha256, or put the artifact into a bundle", configSection(name))
		}
		return path, nil
	}
	ctx, cancel := context.WithTimeout(ctx, e.Config.Timeouts.Download)
	defer cancel()
	path, err := e.Store.Get(ctx, ref, func(done, total int64) { report("fetching "+name, done, total) })
	switch {
	case err == nil:
		return path, nil
	case fault.IsPermanent(err):
		return "", err
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("timed out after %v", e.Config.Timeouts.Download)
	}
	return "", &engine.Wait{For: "the download of " + name + " from " + e.sourceOf(name), Err: err, After: fault.RetryAfter(err)}
}

// sourceOf returns the URL of an artifact without credentials.
func (e *Env) sourceOf(name string) string {
	switch name {
	case calicoctlName:
		return e.Config.Calicoctl.URL.String()
	case imageName:
		return e.Config.Node.URL.String()
	}
	return e.Config.Minions.URL.String()
}

// configSection returns the section of the configuration that sets an artifact.
func configSection(name string) string {
	return map[string]string{calicoctlName: "calicoctl", imageName: "node", minionsName: "minions"}[name]
}

// hasSource reports whether the artifact has a URL or is in the cache or a
// bundle.
func (e *Env) hasSource(name string) bool {
	ref := e.reference(name)
	if ref.URL != "" {
		return true
	}
	if ref.SHA256 != "" {
		return e.Store.Has(ref)
	}
	_, err := e.Store.Bundled(name)
	return err == nil
}

// localArtifact returns the path of an artifact in the cache or a bundle, if it is
// there. One that the configuration pins is not verified.
func (e *Env) localArtifact(name string) (path string, ok bool) {
	ref := e.reference(name)
	if path, ok = e.Store.Lookup(ref); ok || ref.SHA256 != "" || ref.URL != "" {
		return path, ok
	}
	path, err := e.Store.Bundled(name)
	return path, err == nil
}
