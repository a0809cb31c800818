package golden

import (
	"context"
	"debug/elf"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/dustin/go-humanize"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/fault"
)

// maxAttempts limits the attempts per artifact. A build pipeline should fail soon
// rather than wait for a server.
const maxAttempts = 4

// download fetches one artifact within timeouts.download.
func (c *Collector) download(ctx context.Context, a Artifact, progress *progress) (string, error) {
	limit := c.Config.Timeouts.Download
	timed, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval = time.Second
	var last error // of the last attempt
	path, err := backoff.Retry(timed, func() (string, error) {
		var path string
		path, last = c.Store.Get(timed, a.Ref, func(done, total int64) { progress.update(a.Name, done, total) })
		return path, retryable(last)
	}, backoff.WithBackOff(pause), backoff.WithMaxTries(maxAttempts), backoff.WithMaxElapsedTime(0),
		backoff.WithNotify(func(_ error, next time.Duration) {
			progress.line("%v; next attempt in %s", last, next.Round(time.Second))
		}))
	switch {
	case err == nil:
		return path, nil
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case timed.Err() != nil:
		return "", engine.WithHint(fmt.Errorf("%w (timed out after %v)", last, limit), "timeouts.download limits the time per artifact")
	}
	return "", last
}

// retryable marks an error for backoff as permanent, or sets the time of the next
// attempt.
func retryable(err error) error {
	switch pause := fault.RetryAfter(err); {
	case err == nil:
		return nil
	case fault.IsPermanent(err):
		return backoff.Permanent(err)
	case pause > 0:
		return backoff.RetryAfter(int(math.Ceil(pause.Seconds())))
	}
	return err
}

// inspect examines a file for problems that every host would have. An invalid
// signature is an error. Unexpected content is a warning, since the digest shows
// that this file is intended.
func (c *Collector) inspect(a Artifact, r *result) error {
	warn := func(format string, args ...any) {
		r.warnings = append(r.warnings, a.Name+": "+fmt.Sprintf(format, args...))
	}
	switch a.Name {
	case calicoctl:
		if _, err := elf.Open(r.item.Path); err != nil {
			warn("not a Linux executable: check the URL")
		}
	case nodeImage:
		c.inspectImage(r.item.Path, warn)
	case minions:
		return c.inspectPackage(r, warn)
	}
	return nil
}

// inspectImage compares the image names in the archive with node.image.
func (c *Collector) inspectImage(path string, warn func(string, ...any)) {
	want := c.Config.Node.Image
	tags, _, err := artifact.ReadImageTags(path)
	switch {
	case err != nil:
		warn("%v", err)
	case !slices.ContainsFunc(tags, func(tag string) bool { return shortName(tag) == shortName(want) }):
		warn("the archive holds %s, but node.image is %s", strings.Join(tags, ", "), want)
	}
}

// shortName returns an image's name without the parts that Docker omits.
func shortName(name string) string {
	return strings.TrimPrefix(strings.TrimPrefix(name, "docker.io/"), "library/")
}

// inspectPackage verifies the package's signature and takes its version.
func (c *Collector) inspectPackage(r *result, warn func(string, ...any)) error {
	if key := c.Config.Minions.SignedBy; key != "" {
		if err := artifact.VerifySignature(r.item.Path, c.KeyPath(key)); err != nil {
			return engine.WithHint(err, "is minions.signedBy (%s) the key that the package was signed with?", key)
		}
	}
	p, err := artifact.ReadPackage(r.item.Path)
	switch {
	case err != nil:
		warn("%v", err)
	case p.Name != minions:
		warn("the file is the package %s", p.Name)
	default:
		r.item.Version = fmt.Sprintf("%s-%s", p.Version, p.Release)
	}
	return nil
}

// progress limits the lines that parallel downloads print.
type progress struct {
	mu    sync.Mutex
	print func(string)
	last  map[string]time.Time // of the last line, by artifact
}

func newProgress(print func(string)) *progress {
	if print == nil {
		print = func(string) {}
	}
	return &progress{print: print, last: map[string]time.Time{}}
}

func (p *progress) line(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.print(fmt.Sprintf(format, args...))
}

// progressInterval is the minimum time between two lines about one download.
const progressInterval = 3 * time.Second

// update prints the progress of a download, at most once per progressInterval and
// not in the first one.
func (p *progress) update(name string, done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	last, started := p.last[name]
	if !started {
		p.last[name] = now
		return
	}
	if now.Sub(last) < progressInterval {
		return
	}
	p.last[name] = now
	of := ""
	if total > 0 {
		of = fmt.Sprintf(" of %s (%d %%)", size(total), min(100, done*100/total))
	}
	p.print(fmt.Sprintf("%s: %s%s", name, size(done), of))
}

// size formats a number of bytes for people.
func size(n int64) string { return humanize.Bytes(uint64(max(0, n))) } //nolint:gosec // not negative
