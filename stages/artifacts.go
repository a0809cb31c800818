package stages

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/engine"
)

// The artifacts' names, in bundles and in what people read.
const (
	calicoctlName = "calicoctl"
	imageName     = "node-image"
	minionsName   = "eru-minions"
)

// References lists every artifact that the configuration names, with its URL
// as a fetch needs it.
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

// Prefetch gets every artifact that has a URL, side by side, so that the
// stages find them in the cache. Failures are left to the stage that needs the
// artifact, which tries again and says why.
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

// onMachine tells whether the machine has what the artifact would bring.
func (e *Env) isPresent(ctx context.Context, name string) bool {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	var f engine.CheckResult
	var err error
	switch name {
	case calicoctlName:
		f, err = calicoctl{e}.Check(ctx)
	case minionsName:
		err = minions{e}.checkPackage(ctx, &f)
	default:
		if f, err = e.dockerActive(ctx); err == nil && f.OK() {
			err = docker{e}.checkImage(ctx, &f)
		}
	}
	return err == nil && f.OK()
}

// get returns the path of a verified artifact, from a bundle, the cache or its
// URL. A download that breaks is waited for; a wrong file is an error.
func (e *Env) getArtifact(ctx context.Context, name string, report engine.Progress) (string, error) {
	ref := e.reference(name)
	if ref.URL == "" && ref.SHA256 == "" {
		path, err := e.Store.Bundled(name)
		if err != nil {
			return "", engine.WithHint(err, "set %s.url and its sha256, or put the artifact into a bundle", configSection(name))
		}
		return path, nil
	}
	ctx, cancel := context.WithTimeout(ctx, e.Config.Timeouts.Download)
	defer cancel()
	path, err := e.Store.Get(ctx, ref, func(done, total int64) { report("fetching "+name, done, total) })
	switch {
	case err == nil:
		return path, nil
	case artifact.IsPermanent(err):
		return "", err
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("no end after %v", e.Config.Timeouts.Download)
	}
	wait := &engine.Wait{For: "the download of " + name + " from " + e.sourceOf(name), Err: err}
	var failed *artifact.Error
	if errors.As(err, &failed) {
		wait.After = failed.RetryAfter
	}
	return "", wait
}

// sourceOf is where an artifact comes from, without credentials.
func (e *Env) sourceOf(name string) string {
	switch name {
	case calicoctlName:
		return e.Config.Calicoctl.URL.String()
	case imageName:
		return e.Config.Node.URL.String()
	}
	return e.Config.Minions.URL.String()
}

// configSection is the part of the configuration that names an artifact.
func configSection(name string) string {
	return map[string]string{calicoctlName: "calicoctl", imageName: "node", minionsName: "minions"}[name]
}

// available tells whether there is anywhere to get an artifact from.
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
