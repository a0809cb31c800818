// Package artifact provides the files that a host is built from. It takes them
// from a bundle in the image, the cache or the network, verifies them, and
// never executes or installs them.
//
// It handles URLs, digests, RPM files and image archives. It does not know what
// an artifact is for. It leaves retries to the caller: every error
// has a class of package fault.
package artifact

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/projecteru2/firstboot/internal/text"
	"github.com/projecteru2/firstboot/internal/web"
)

// defaultMaxSize bounds an artifact, in bytes. The largest known one, the
// calico/node image, has 85–230 MB.
const defaultMaxSize = 2 << 30

// Ref identifies an artifact and its source.
type Ref struct {
	Name string // its name in messages and bundles: "calicoctl"
	// URL is http, https, file or an absolute path. If it is empty, the
	// artifact must be in a bundle or the cache. It may contain credentials;
	// errors never do.
	URL string
	// SHA256 is 64 lower-case hexadecimal digits. If it is empty, the file is
	// stored unverified, and the caller verifies it (VerifySignature).
	SHA256 string
}

// Progress receives the number of bytes fetched so far and in total; total is 0
// while it is unknown. It is called from another goroutine, a few times a
// second.
type Progress func(done, total int64)

// Options configure a Store.
type Options struct {
	Cache   string   // directory of the cache: /var/lib/firstboot/cache. Created on demand, 0700
	Bundles []string // directories of bundles, searched in order; missing ones are skipped
	// Proxy chooses the proxy of a request; nil: the environment's (web.Proxy).
	Proxy        func(*http.Request) (*url.URL, error)
	MaxSize      int64         // in bytes; 0: 2 GiB
	StallTimeout time.Duration // how long a server may send nothing; 0: 30 s
	// Log receives messages for people, such as one about a damaged bundle.
	Log func(string)
	// Hashing is called before each file whose sha256 is computed, with its path,
	// for tests that count. It may be nil.
	Hashing func(path string)
}

// Store provides artifacts. It is safe for concurrent use.
type Store struct {
	cache    string
	bundles  []string
	client   *web.Client
	maxSize  int64
	log      func(string)
	fetches  singleflight.Group
	progress progressListeners
	digests  digests
	record   recorder // for tests
}

// NewStore creates a Store. It reads and writes nothing yet.
func NewStore(o Options) *Store {
	s := &Store{
		cache: o.Cache, bundles: o.Bundles, log: o.Log,
		client:  web.NewClient(web.Options{Proxy: o.Proxy, Stall: o.StallTimeout}),
		maxSize: o.MaxSize,
	}
	if s.maxSize <= 0 {
		s.maxSize = defaultMaxSize
	}
	s.digests.hashing = o.Hashing
	if s.log == nil {
		s.log = func(string) {}
	}
	return s
}

// Get returns the path of a file whose sha256 it has verified. A file that is
// unchanged since is not read again. It looks in
// the bundles, then in the cache, and then fetches the URL. Concurrent Gets of
// one artifact share one fetch. For a Ref without SHA256, Get only ensures that
// the file is complete, as far as its source states the size.
func (s *Store) Get(ctx context.Context, ref Ref, progress Progress) (string, error) {
	if err := ref.check(); err != nil {
		return "", ref.permanentError(err, "set the sha256 to 64 lower-case hexadecimal digits")
	}
	if progress != nil {
		defer s.progress.add(ref.key(), progress)()
	}
	for {
		fetch := s.fetches.DoChan(ref.key(), func() (any, error) { return s.find(ctx, ref) })
		select {
		case <-ctx.Done():
			return "", ref.transientError(context.Cause(ctx))
		case result := <-fetch:
			if result.Err != nil && result.Shared && isContextError(result.Err) && ctx.Err() == nil {
				continue // another caller's context ended the shared fetch
			}
			path, _ := result.Val.(string)
			return path, result.Err
		}
	}
}

func isContextError(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// Lookup returns an artifact's path in a bundle or the cache, without verifying
// the file: enough for a plan. To install an artifact, call Get.
func (s *Store) Lookup(ref Ref) (path string, ok bool) {
	if ref.check() != nil || ref.SHA256 == "" && ref.URL == "" {
		return "", false
	}
	for _, b := range s.openBundles() {
		if e, found := b.find(ref.SHA256); found && b.has(e) {
			return b.Path(e), true
		}
	}
	path = s.cachePath(ref)
	info, err := os.Lstat(path)
	return path, err == nil && info.Mode().IsRegular()
}

// Has reports whether Lookup finds the artifact, so that Get probably needs no
// network.
func (s *Store) Has(ref Ref) bool {
	_, ok := s.Lookup(ref)
	return ok
}

// Remove removes an artifact from the cache. A caller that rejects an artifact
// without SHA256 must remove it, or Get would return it again.
func (s *Store) Remove(ref Ref) error {
	if ref.check() != nil {
		return nil //nolint:nilerr // Get never stored such an artifact
	}
	err := s.record.remove(s.cachePath(ref))
	if err == nil {
		err = s.record.syncDir(s.cache)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot remove %s from the cache: %w", ref.Name, err)
	}
	return nil
}

// find does the work of concurrent Gets of one artifact.
func (s *Store) find(ctx context.Context, ref Ref) (string, error) {
	if ref.SHA256 != "" {
		if path, ok := s.fromBundle(ctx, ref.SHA256); ok {
			return path, nil
		}
	}
	path, ok, err := s.fromCache(ctx, ref)
	if ok || err != nil {
		return path, err
	}
	if ref.URL == "" {
		return "", ref.permanentError(errors.New("not in a bundle, and no url is set"), hintNoSource)
	}
	return s.fetch(ctx, ref)
}

// hintNoSource is the hint for an artifact that is in no bundle and has no URL.
const hintNoSource = "set its url, or put it into a bundle: firstboot bundle"

// fromCache returns the cached file if its digest still matches. It removes a
// damaged file.
func (s *Store) fromCache(ctx context.Context, ref Ref) (string, bool, error) {
	path := s.cachePath(ref)
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		return "", false, nil //nolint:nilerr // then it is fetched; writing it reports a broken cache
	}
	if ref.SHA256 == "" {
		s.removePartial(path)
		return path, true, nil
	}
	digest, err := s.Digest(ctx, path)
	switch {
	case ctx.Err() != nil:
		return "", false, ref.transientError(context.Cause(ctx))
	case err == nil && digest == ref.SHA256:
		s.removePartial(path)
		return path, true, nil
	case err == nil:
		err = fmt.Errorf("its sha256 is now %s", digest)
	}
	s.log(fmt.Sprintf("removing the damaged %s from the cache: %v", ref.Name, err))
	if err := s.record.remove(path); err != nil {
		return "", false, ref.transientError(fmt.Errorf("cannot remove the damaged %s: %w", path, withoutPath(err)))
	}
	return "", false, nil
}

// removePartial removes what a power cut left of the fetch of a cached file.
func (s *Store) removePartial(path string) {
	if _, err := os.Lstat(path + ".part.json"); err == nil {
		_ = s.record.remove(path + ".part.json") // harmless if it stays
	}
}

// cachePath is an artifact's path in the cache.
func (s *Store) cachePath(ref Ref) string { return filepath.Join(s.cache, ref.key()) }

// key is an artifact's name in the cache: its digest, or, if it has none, the
// digest of its URL without credentials. A new password is not a new artifact.
func (r Ref) key() string {
	if r.SHA256 != "" {
		return r.SHA256
	}
	raw := r.URL
	if u, err := url.Parse(raw); err == nil && u.User != nil {
		u.User = nil
		raw = u.String()
	}
	digest := sha256.Sum256([]byte(raw))
	return "url-" + hex.EncodeToString(digest[:])
}

func (r Ref) check() error {
	if r.SHA256 != "" && !isSHA256(r.SHA256) {
		return fmt.Errorf("%q is not a sha256", text.Line(r.SHA256))
	}
	return nil
}

// isSHA256 reports whether s is a sha256 in lower-case hexadecimal digits.
func isSHA256(s string) bool {
	return len(s) == 2*sha256.Size && strings.Trim(s, "0123456789abcdef") == ""
}
