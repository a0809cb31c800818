// Package artifact brings the files that a host is made from: out of a bundle
// in the image, out of the cache, or over the network; whole, verified, and
// never executed or installed here.
//
// It knows URLs, digests, RPM files and image archives. It does not know what
// an artifact is for, and it does not try again by itself: an error says
// whether another try may help (IsPermanent).
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
)

const (
	// DefaultMaxSize bounds an artifact, in bytes. The largest one known, the
	// calico/node image, has 85–230 MB.
	DefaultMaxSize = 2 << 30
	// DefaultStallTimeout is how long a server may send nothing.
	DefaultStallTimeout = 30 * time.Second
)

// Ref names an artifact, where it is and what it must be.
type Ref struct {
	Name string // as people and bundles call it: "calicoctl"
	// URL is http, https, file or a plain absolute path; empty: from a bundle
	// or the cache only. It may hold credentials; errors never do.
	URL string
	// SHA256 is 64 lower-case hexadecimal digits; empty: the file is stored as
	// it comes and the caller verifies it (VerifySignature).
	SHA256 string
}

// Progress is told how many bytes there are, of how many; total is 0 while
// that is not known. It is called from another goroutine, a few times a second.
type Progress func(done, total int64)

// Options are what a Store needs.
type Options struct {
	Cache   string   // folder of the cache: /var/lib/firstboot/cache. Made when needed, 0700
	Bundles []string // folders of bundles, first wins; those that are not there are passed over
	// Client fetches; nil: one that asks Proxy. Its CheckRedirect is replaced.
	Client *http.Client
	// Proxy chooses the proxy of a request; nil: the environment's (see ProxyFunc).
	Proxy        func(*http.Request) (*url.URL, error)
	MaxSize      int64         // in bytes; 0: DefaultMaxSize
	StallTimeout time.Duration // 0: DefaultStallTimeout
	// Log takes notes for people: a damaged bundle, a partial file thrown away.
	Log func(string)
}

// Store gets artifacts. It may be used by several goroutines at once.
type Store struct {
	cache    string
	bundles  []string
	client   *http.Client
	maxSize  int64
	stall    time.Duration
	log      func(string)
	flights  singleflight.Group
	audience audience
}

// NewStore makes a Store; nothing is read or written yet.
func NewStore(o Options) *Store {
	s := &Store{
		cache: o.Cache, bundles: o.Bundles, client: newClient(o.Client, o.Proxy),
		maxSize: o.MaxSize, stall: o.StallTimeout, log: o.Log,
	}
	if s.maxSize <= 0 {
		s.maxSize = DefaultMaxSize
	}
	if s.stall <= 0 {
		s.stall = DefaultStallTimeout
	}
	if s.log == nil {
		s.log = func(string) {}
	}
	return s
}

// Get returns the path of a file whose sha256 was computed just now and is the
// one wanted: from a bundle, else the cache, else the URL. Several Gets of one
// artifact fetch it once. A Ref without SHA256 gives a file that is whole as
// far as its source says, and nothing more.
func (s *Store) Get(ctx context.Context, ref Ref, progress Progress) (string, error) {
	if err := ref.check(); err != nil {
		return "", ref.fail(err, true, "give the sha256 as 64 hexadecimal digits")
	}
	if progress != nil {
		defer s.audience.join(ref.key(), progress)()
	}
	for {
		flight := s.flights.DoChan(ref.key(), func() (any, error) { return s.find(ctx, ref) })
		select {
		case <-ctx.Done():
			return "", ref.fail(context.Cause(ctx), false, "")
		case got := <-flight:
			if got.Err != nil && got.Shared && ended(got.Err) && ctx.Err() == nil {
				continue // another caller's context ended the fetch: go on with ours
			}
			path, _ := got.Val.(string)
			return path, got.Err
		}
	}
}

// ended tells whether a fetch ended because its context did.
func ended(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// Lookup tells where an artifact is without the network and without hashing
// it: enough for a plan. Who installs it calls Get.
func (s *Store) Lookup(ref Ref) (path string, ok bool) {
	if ref.check() != nil || ref.SHA256 == "" && ref.URL == "" {
		return "", false
	}
	for _, b := range s.openBundles() {
		if e, found := b.find(ref.SHA256); found && hasSize(b.Path(e), e.Size) {
			return b.Path(e), true
		}
	}
	path = s.cached(ref)
	info, err := os.Lstat(path)
	return path, err == nil && info.Mode().IsRegular()
}

// Has tells whether Get would need no network, as far as can be told without
// hashing.
func (s *Store) Has(ref Ref) bool {
	_, ok := s.Lookup(ref)
	return ok
}

// Remove takes an artifact out of the cache: one without SHA256 that its
// caller found to be wrong would be handed out again.
func (s *Store) Remove(ref Ref) error {
	if ref.check() != nil {
		return nil //nolint:nilerr // what cannot be asked for was never stored
	}
	err := os.Remove(s.cached(ref))
	if err == nil {
		err = syncDir(s.cache)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot remove %s from the cache: %w", ref.Name, err)
	}
	return nil
}

// find is one flight of Get.
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
		return "", ref.fail(errors.New("it is in no bundle and has no url"), true,
			"set its url, or put it into a bundle: firstboot bundle")
	}
	return s.fetch(ctx, ref)
}

// fromCache returns the cached file if it is still what it was when it was
// stored; a damaged one is removed.
func (s *Store) fromCache(ctx context.Context, ref Ref) (string, bool, error) {
	path := s.cached(ref)
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		return "", false, nil //nolint:nilerr // what cannot be read is fetched, and a broken cache fails when it is written
	}
	if ref.SHA256 == "" {
		return path, true, nil
	}
	sum, err := fileSum(ctx, path)
	switch {
	case ctx.Err() != nil:
		return "", false, ref.fail(context.Cause(ctx), false, "")
	case err == nil && sum == ref.SHA256:
		return path, true, nil
	case err == nil:
		err = fmt.Errorf("its sha256 is %s now", sum)
	}
	s.log(fmt.Sprintf("the cached %s is damaged and thrown away: %v", ref.Name, err))
	if err := os.Remove(path); err != nil {
		return "", false, ref.fail(fmt.Errorf("the damaged %s cannot be removed: %w", path, err), false, "")
	}
	return "", false, nil
}

// cached is where the cache keeps an artifact.
func (s *Store) cached(ref Ref) string { return filepath.Join(s.cache, ref.key()) }

// key is an artifact's name in the cache: its digest, or, where it has none,
// the digest of its URL without credentials, so that a new password is not a
// new artifact.
func (r Ref) key() string {
	if r.SHA256 != "" {
		return r.SHA256
	}
	raw := r.URL
	if u, err := url.Parse(raw); err == nil && u.User != nil {
		u.User = nil
		raw = u.String()
	}
	sum := sha256.Sum256([]byte(raw))
	return "url-" + hex.EncodeToString(sum[:])
}

func (r Ref) check() error {
	if r.SHA256 != "" && !isSum(r.SHA256) {
		return fmt.Errorf("%q is no sha256", clip(r.SHA256))
	}
	return nil
}

// fail makes an error about this artifact.
func (r Ref) fail(err error, permanent bool, advice string) error {
	var already *Error
	if errors.As(err, &already) {
		return err
	}
	var hinted interface{ Hint() string }
	if advice == "" && errors.As(err, &hinted) {
		advice = hinted.Hint()
	}
	return &Error{Name: r.Name, Source: redact(r.URL), Err: err, Permanent: permanent, Advice: advice}
}

// isSum tells whether s is a sha256 as this project writes them.
func isSum(s string) bool {
	return len(s) == 2*sha256.Size && strings.Trim(s, "0123456789abcdef") == ""
}
