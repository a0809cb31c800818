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

// bundle plans the image's bundle: a ready one as it is, else what the
// configuration pins.
func (b *Bake) bundle(ctx context.Context, p *Plan, loaded *config.Loaded) error {
	if b.NoBundle {
		return nil
	}
	if b.Bundle != "" {
		return b.readyBundle(ctx, p, loaded)
	}
	if loaded == nil {
		return nil
	}
	wanted := b.wanted(p, loaded.Config)
	if len(wanted) == 0 {
		return nil
	}
	seen := absent
	for _, dir := range b.BundleDirs {
		have, err := artifact.OpenBundle(b.Host.RealPath(dir))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		lack := missing(ctx, have, err, wanted)
		if lack == "" {
			return nil
		}
		seen = lack
	}
	p.Changes = append(p.Changes, Change{Action: "bundle", Path: b.BundleDirs[0], Seen: seen, apply: func(ctx context.Context) error {
		return b.collect(ctx, loaded.Config)
	}})
	return nil
}

// wanted are the artifacts that a host could take from a bundle.
func (b *Bake) wanted(p *Plan, c *config.Config) []artifact.Entry {
	var all []artifact.Entry
	for _, a := range b.Artifacts(c) {
		switch {
		case a.SHA256 != "":
			all = append(all, artifact.Entry{Name: a.Name, SHA256: a.SHA256})
		case a.URL != "":
			p.warn("%s.sha256 is not set: hosts fetch %s from its url (firstboot bundle --lock sets it)", a.Section, a.Name)
		}
	}
	return all
}

// missing says what of wanted a bundle lacks, "" if nothing.
func missing(ctx context.Context, have *artifact.Bundle, err error, wanted []artifact.Entry) string {
	if err != nil {
		return err.Error()
	}
	for _, w := range wanted {
		i := slices.IndexFunc(have.Entries, func(e artifact.Entry) bool { return e.SHA256 == w.SHA256 && e.Name == w.Name })
		if i < 0 {
			return "without " + w.Name
		}
		if err := have.VerifyEntry(ctx, have.Entries[i]); err != nil {
			return err.Error()
		}
	}
	return ""
}

// collect fetches what the configuration pins into the image's bundle. What is
// not pinned would not be taken from there.
func (b *Bake) collect(ctx context.Context, c *config.Config) error {
	all, err := b.Collect(ctx, c)
	if err != nil {
		return err
	}
	_, err = Pack(ctx, b.Host.RealPath(b.BundleDirs[0]), all.Items)
	return err
}

// readyBundle plans a copy of a whole bundle.
func (b *Bake) readyBundle(ctx context.Context, p *Plan, loaded *config.Loaded) error {
	ready, err := artifact.OpenBundle(b.Bundle)
	if err != nil {
		return err
	}
	if err := ready.Verify(ctx); err != nil {
		return err
	}
	if loaded != nil {
		for _, w := range b.wanted(p, loaded.Config) {
			if lack := missing(ctx, ready, nil, []artifact.Entry{w}); lack != "" {
				p.warn("the bundle in %s is %s (sha256 %s): hosts fetch it", b.Bundle, lack, w.SHA256)
			}
		}
	}
	dir := b.BundleDirs[0]
	have, err := artifact.OpenBundle(b.Host.RealPath(dir))
	seen := absent
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		seen = err.Error()
	case !slices.Equal(have.Entries, ready.Entries):
		seen = "another bundle"
	default:
		if seen = missing(ctx, have, nil, ready.Entries); seen == "" {
			return nil
		}
	}
	p.Changes = append(p.Changes, Change{Action: "bundle", Path: dir, Seen: seen, Size: total(ready), apply: func(ctx context.Context) error {
		var items []artifact.Item
		for _, e := range ready.Entries {
			items = append(items, artifact.Item{Entry: e, Path: ready.Path(e)})
		}
		if _, err := Pack(ctx, b.Host.RealPath(dir), items); err != nil {
			return fmt.Errorf("cannot copy the bundle: %w", err)
		}
		return nil
	}})
	return nil
}

func total(b *artifact.Bundle) int64 {
	var n int64
	for _, e := range b.Entries {
		n += e.Size
	}
	return n
}
