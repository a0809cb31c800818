package golden

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/config"
)

// planBundle plans the image's bundle: a copy of an existing one, or the
// artifacts that the configuration pins.
func (b *Bake) planBundle(ctx context.Context, p *Plan, loaded *config.Loaded) error {
	if loaded != nil {
		b.warnWithoutSource(p, loaded.Config)
	}
	if b.NoBundle {
		return nil
	}
	if b.Bundle != "" {
		return b.planCopy(ctx, p, loaded)
	}
	if loaded == nil {
		return nil
	}
	wanted := b.pinned(p, loaded.Config)
	if len(wanted) == 0 {
		return nil
	}
	actual := missing
	for _, dir := range b.BundleDirs {
		have, err := artifact.OpenBundle(b.Host.RealPath(dir))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		problem := firstProblem(ctx, have, err, wanted)
		if problem == "" {
			return nil
		}
		actual = problem
	}
	p.Changes = append(p.Changes, Change{Action: "bundle", Path: b.BundleDirs[0], Actual: actual, apply: func(ctx context.Context) error {
		return b.collect(ctx, loaded.Config)
	}})
	return nil
}

// warnWithoutSource warns of artifacts that the image's hosts have no source for.
func (b *Bake) warnWithoutSource(p *Plan, c *config.Config) {
	bundles := OpenBundles(b.Host, b.BundleDirs)
	if source, err := artifact.OpenBundle(b.Bundle); b.Bundle != "" && err == nil {
		bundles = append(OpenBundles(b.Host, b.BundleDirs[1:]), source) // it replaces the first
	}
	for _, a := range WithoutSource(b.Artifacts(c), func(a Artifact) bool { return HasArtifact(b.Host, a, bundles) }) {
		p.warn("%[1]s is neither in the image nor in a bundle, and %[2]s.url is not set: preflight will refuse (artifact-missing)", a.Name, a.Section)
	}
}

// pinned returns the artifacts that a host takes from a bundle: those with a
// digest. It warns of those without.
func (b *Bake) pinned(p *Plan, c *config.Config) []artifact.Entry {
	var all []artifact.Entry
	for _, a := range b.Artifacts(c) {
		switch {
		case a.SHA256 != "":
			all = append(all, artifact.Entry{Name: a.Name, SHA256: a.SHA256})
		case a.URL != "":
			p.warn("%s.sha256 is not set: hosts fetch %s from its URL (firstboot bundle --lock sets it)", a.Section, a.Name)
		}
	}
	return all
}

// firstProblem describes the first reason why a bundle does not provide wanted;
// "" if it does. err is the error of opening the bundle.
func firstProblem(ctx context.Context, have *artifact.Bundle, err error, wanted []artifact.Entry) string {
	if err != nil {
		return err.Error()
	}
	for _, w := range wanted {
		i := slices.IndexFunc(have.Entries, func(e artifact.Entry) bool { return e.SHA256 == w.SHA256 && e.Name == w.Name })
		if i < 0 {
			return "has no " + w.Name
		}
		if err := have.VerifyEntry(ctx, have.Entries[i]); err != nil {
			return err.Error()
		}
	}
	return ""
}

// collect fetches the pinned artifacts into the image's bundle. Hosts take only
// pinned artifacts from a bundle.
func (b *Bake) collect(ctx context.Context, c *config.Config) error {
	dir := b.Host.RealPath(b.BundleDirs[0])
	all, err := b.Collect(ctx, c)
	if err != nil {
		DiscardEmpty(dir)
		return err
	}
	_, err = Pack(ctx, dir, all.Items, b.options...)
	return err
}

// planCopy plans a copy of an existing bundle.
func (b *Bake) planCopy(ctx context.Context, p *Plan, loaded *config.Loaded) error {
	source, err := artifact.OpenBundle(b.Bundle)
	if err != nil {
		return err
	}
	if err := source.Verify(ctx); err != nil {
		return err
	}
	if loaded != nil {
		for _, w := range b.pinned(p, loaded.Config) {
			if problem := firstProblem(ctx, source, nil, []artifact.Entry{w}); problem != "" {
				p.warn("the bundle in %s %s (sha256 %s): hosts fetch it", b.Bundle, problem, w.SHA256)
			}
		}
	}
	dir := b.BundleDirs[0]
	have, err := artifact.OpenBundle(b.Host.RealPath(dir))
	actual := missing
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		actual = err.Error()
	case !slices.Equal(have.Entries, source.Entries):
		actual = "another bundle"
	default:
		if actual = firstProblem(ctx, have, nil, source.Entries); actual == "" {
			return nil
		}
	}
	p.Changes = append(p.Changes, Change{Action: "bundle", Path: dir, Actual: actual, Size: totalSize(source), apply: func(ctx context.Context) error {
		var items []artifact.Item
		for _, e := range source.Entries {
			items = append(items, artifact.Item{Entry: e, Path: source.Path(e)})
		}
		if _, err := Pack(ctx, b.Host.RealPath(dir), items, b.options...); err != nil {
			return fmt.Errorf("cannot copy the bundle: %w", err)
		}
		return nil
	}})
	return nil
}

// totalSize returns the size of a bundle's artifacts in bytes.
func totalSize(b *artifact.Bundle) int64 {
	var n int64
	for _, e := range b.Entries {
		n += e.Size
	}
	return n
}
