package golden

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/config"
)

// fetchFolder is where a bundle's artifacts come in, inside the bundle's own
// folder: a fetch that was cut off goes on from there the next time.
const fetchFolder = ".fetch"

// Collection is what of a configuration goes into a bundle.
type Collection struct {
	Items    []artifact.Item
	Skipped  []Skipped
	Warnings []string
}

// Skipped is an artifact that is not in the bundle.
type Skipped struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

// Collector fetches and verifies artifacts.
type Collector struct {
	Config    *config.Config
	Artifacts []Artifact
	// Store fetches; its cache is DownloadDir(dir).
	Store *artifact.Store
	// Locking says that missing sums are about to be set.
	Locking bool
	// KeyPath finds the file of minions.signedBy: it may lie in an image.
	KeyPath func(path string) string
	// Progress takes a line for people now and then.
	Progress func(line string)
}

// DownloadDir is the folder that a bundle's artifacts are fetched into.
func DownloadDir(bundle string) string { return filepath.Join(bundle, fetchFolder) }

// Collect gets every artifact that has a url or a sum, side by side. All that
// cannot be had is reported at once.
func (c *Collector) Collect(ctx context.Context) (Collection, error) {
	var all Collection
	results := make([]result, len(c.Artifacts))
	var fetches sync.WaitGroup
	say := newProgress(c.Progress)
	for i, a := range c.Artifacts {
		fetches.Go(func() { results[i] = c.one(ctx, a, say) })
	}
	fetches.Wait()
	var broken []error
	for _, r := range results {
		all.Warnings = append(all.Warnings, r.warnings...)
		switch {
		case r.err != nil:
			broken = append(broken, r.err)
		case r.skipped != nil:
			all.Skipped = append(all.Skipped, *r.skipped)
		default:
			all.Items = append(all.Items, r.item)
		}
	}
	if len(broken) == 1 {
		return all, broken[0] // as it is, with its hint
	}
	return all, errors.Join(broken...)
}

// result is what became of one artifact.
type result struct {
	item     artifact.Item
	skipped  *Skipped
	warnings []string
	err      error
}

func (c *Collector) one(ctx context.Context, a Artifact, say *progress) (r result) {
	if a.URL == "" && a.SHA256 == "" {
		r.skipped = &Skipped{a.Name, c.unnamed(a)}
		return r
	}
	if a.SHA256 == "" {
		// Only by its url a file could be an older one than the server has.
		if r.err = c.Store.Remove(a.Ref); r.err != nil {
			return r
		}
	}
	path, err := c.get(ctx, a, say)
	if err != nil {
		r.err = err
		return r
	}
	r.item = artifact.Item{Entry: artifact.Entry{Name: a.Name, Version: a.Version, SHA256: a.SHA256, Source: a.URL}, Path: path}
	r.err = c.inspect(a, &r)
	if a.SHA256 == "" && !c.Locking {
		r.warnings = append(r.warnings, fmt.Sprintf(
			"%s.sha256 is not set: hosts fetch %s from its url, not from the bundle (firstboot bundle --lock sets it)", a.Section, a.Name))
	}
	return r
}

// unnamed says what an artifact without url and sum means for a host.
func (c *Collector) unnamed(a Artifact) string {
	if a.Name == nodeImage {
		return fmt.Sprintf("%s.url is not set: hosts pull %s", a.Section, c.Config.Node.Image)
	}
	return a.Section + ".url is not set: hosts must have it already"
}

// Pack makes dir a bundle of the items, and removes what was fetched for it.
func Pack(ctx context.Context, dir string, items []artifact.Item) (*artifact.Bundle, error) {
	b, err := artifact.WriteBundle(ctx, dir, items)
	if err != nil {
		return nil, err
	}
	if err := os.RemoveAll(DownloadDir(dir)); err != nil {
		return nil, fmt.Errorf("cannot clean the bundle in %s: %w", dir, err)
	}
	return b, nil
}
