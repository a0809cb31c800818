package golden

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/host"
)

// downloadDir is the subdirectory of a bundle that artifacts are fetched into. An
// interrupted download resumes from there.
const downloadDir = ".fetch"

// Collection is the result of fetching a configuration's artifacts.
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
	// Locking means that missing digests will be set afterwards.
	Locking bool
	// Architecture is that of the hosts' programs, as ImageArchitecture and
	// Architecture return it; "" if it is unknown.
	Architecture string
	// CalicoctlVersion runs a calicoctl and returns the version that it prints.
	CalicoctlVersion func(ctx context.Context, path string) (string, error)
	// KeyPath returns the file of minions.signedBy, which may be in an image.
	KeyPath func(path string) string
	// Progress receives lines of progress, for people.
	Progress func(line string)
}

// DownloadDir returns the directory that a bundle's artifacts are fetched into.
func DownloadDir(bundle string) string { return filepath.Join(bundle, downloadDir) }

// Collect fetches every artifact that has a URL or a digest, in parallel. It
// reports all failures at once.
func (c *Collector) Collect(ctx context.Context) (Collection, error) {
	var all Collection
	results := make([]result, len(c.Artifacts))
	var fetches sync.WaitGroup
	progress := newProgress(c.Progress)
	for i, a := range c.Artifacts {
		fetches.Go(func() { results[i] = c.fetchOne(ctx, a, progress) })
	}
	fetches.Wait()
	var failed []error
	for _, r := range results {
		all.Warnings = append(all.Warnings, r.warnings...)
		switch {
		case r.err != nil:
			failed = append(failed, r.err)
		case r.skipped != nil:
			all.Skipped = append(all.Skipped, *r.skipped)
		default:
			all.Items = append(all.Items, r.item)
		}
	}
	if len(failed) == 1 {
		return all, failed[0] // unwrapped, so that its hint is kept
	}
	return all, errors.Join(failed...)
}

// result is the result of fetching one artifact.
type result struct {
	item     artifact.Item
	skipped  *Skipped
	warnings []string
	err      error
}

func (c *Collector) fetchOne(ctx context.Context, a Artifact, progress *progress) (r result) {
	if a.URL == "" && a.SHA256 == "" {
		r.skipped = &Skipped{a.Name, c.skipReason(a)}
		return r
	}
	if a.SHA256 == "" {
		// Without a digest, a file fetched earlier may be outdated.
		if r.err = c.Store.Remove(a.Ref); r.err != nil {
			return r
		}
	}
	path, err := c.download(ctx, a, progress)
	if err != nil {
		r.err = err
		return r
	}
	r.item = artifact.Item{Entry: artifact.Entry{Name: a.Name, Version: a.Version, SHA256: a.SHA256, Source: a.URL}, Path: path}
	r.err = c.inspect(ctx, a, &r)
	if a.SHA256 == "" && !c.Locking {
		r.warnings = append(r.warnings, fmt.Sprintf(
			"%s.sha256 is not set: hosts fetch %s from its URL, not from the bundle (firstboot bundle --lock sets it)", a.Section, a.Name))
	}
	return r
}

// skipReason explains what a missing URL means for a host.
func (c *Collector) skipReason(a Artifact) string {
	if a.Name == nodeImage {
		return fmt.Sprintf("%s.url is not set: hosts pull %s", a.Section, c.Config.Node.Image)
	}
	return a.Section + ".url is not set: hosts must have it already"
}

// CreateDownloadDir creates the directory that a bundle's artifacts are fetched
// into. Without it a directory that cannot be written looks like a failed fetch.
func CreateDownloadDir(bundle string) error {
	err := os.MkdirAll(bundle, 0o755)
	if err == nil {
		err = os.MkdirAll(DownloadDir(bundle), 0o700)
	}
	var p *fs.PathError
	if errors.As(err, &p) {
		return fmt.Errorf("cannot write the bundle to %s: %w", bundle, p.Err)
	}
	return err
}

// Discard removes the downloads of a bundle that is not written, and the
// bundle's directory if it is empty.
func Discard(bundle string) {
	_ = os.RemoveAll(DownloadDir(bundle)) // the caller reports why there is no bundle
	_ = os.Remove(bundle)
}

// DiscardEmpty removes the download directory of a bundle if nothing in it can be
// resumed, and then the bundle's directory if it is empty.
func DiscardEmpty(bundle string) {
	for _, dir := range []string{DownloadDir(bundle), bundle} {
		_ = os.Remove(dir) // fails if it is not empty
	}
}

// Pack writes the items as a bundle to dir and removes the download directory. The
// options are for tests.
func Pack(ctx context.Context, dir string, items []artifact.Item, options ...host.Option) (*artifact.Bundle, error) {
	b, err := artifact.WriteBundle(ctx, dir, items, options...)
	if err != nil {
		return nil, err
	}
	if err := os.RemoveAll(DownloadDir(dir)); err != nil {
		return nil, fmt.Errorf("cannot remove the downloads in %s: %w", dir, err)
	}
	return b, nil
}
