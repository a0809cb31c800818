package golden

import (
	"context"
	"debug/elf"
	"errors"
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
)

// tries is how often one artifact is asked for: a pipeline that is told soon
// is worth more than one that waits for a server.
const tries = 4

// get fetches one artifact, within timeouts.download.
func (c *Collector) get(ctx context.Context, a Artifact, say *progress) (string, error) {
	limit := c.Config.Timeouts.Download
	timed, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval = time.Second
	var seen error // of the last try
	path, err := backoff.Retry(timed, func() (string, error) {
		var path string
		path, seen = c.Store.Get(timed, a.Ref, func(done, total int64) { say.moved(a.Name, done, total) })
		return path, again(seen)
	}, backoff.WithBackOff(pause), backoff.WithMaxTries(tries), backoff.WithMaxElapsedTime(0),
		backoff.WithNotify(func(_ error, next time.Duration) { say.line("%v; again in %s", seen, next.Round(time.Second)) }))
	switch {
	case err == nil:
		return path, nil
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case timed.Err() != nil:
		return "", engine.WithHint(fmt.Errorf("%w (no end within %v)", seen, limit), "timeouts.download bounds one artifact")
	}
	return "", seen
}

// again tells backoff whether, and when, another try makes sense.
func again(err error) error {
	var broken *artifact.Error
	switch {
	case err == nil:
		return nil
	case artifact.IsPermanent(err):
		return backoff.Permanent(err)
	case errors.As(err, &broken) && broken.RetryAfter > 0:
		return backoff.RetryAfter(int(math.Ceil(broken.RetryAfter.Seconds())))
	}
	return err
}

// inspect looks into a file for what would fail on every host: a signature
// that is not there is an error; what is only strange is a warning, since the
// sum says that this file is meant.
func (c *Collector) inspect(a Artifact, r *result) error {
	warn := func(format string, args ...any) {
		r.warnings = append(r.warnings, a.Name+": "+fmt.Sprintf(format, args...))
	}
	switch a.Name {
	case calicoctl:
		if _, err := elf.Open(r.item.Path); err != nil {
			warn("it is no program for Linux: is the url right?")
		}
	case nodeImage:
		c.inspectImage(r.item.Path, warn)
	case minions:
		return c.inspectPackage(r, warn)
	}
	return nil
}

// inspectImage compares the archive's names with the one that is asked for.
func (c *Collector) inspectImage(path string, warn func(string, ...any)) {
	want := c.Config.Node.Image
	tags, _, err := artifact.ReadImageTags(path)
	switch {
	case err != nil:
		warn("%v", err)
	case !slices.ContainsFunc(tags, func(tag string) bool { return familiar(tag) == familiar(want) }):
		warn("the archive holds %s, and node.image is %s", strings.Join(tags, ", "), want)
	}
}

// familiar is an image's name without what Docker leaves out.
func familiar(name string) string {
	return strings.TrimPrefix(strings.TrimPrefix(name, "docker.io/"), "library/")
}

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
		warn("it is the package %s", p.Name)
	default:
		r.item.Version = fmt.Sprintf("%s-%s", p.Version, p.Release)
	}
	return nil
}

// progress thins out what several fetches say.
type progress struct {
	mu   sync.Mutex
	say  func(string)
	last map[string]time.Time
}

func newProgress(say func(string)) *progress {
	if say == nil {
		say = func(string) {}
	}
	return &progress{say: say, last: map[string]time.Time{}}
}

func (p *progress) line(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.say(fmt.Sprintf(format, args...))
}

// progressEvery is the least time between two lines about one fetch.
const progressEvery = 3 * time.Second

// moved says how far a fetch is: not in its first seconds, then now and then,
// and at its end if anything was said before.
func (p *progress) moved(name string, done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	last, begun := p.last[name]
	if !begun {
		p.last[name] = now
		return
	}
	if now.Sub(last) < progressEvery {
		return
	}
	p.last[name] = now
	of := ""
	if total > 0 {
		of = fmt.Sprintf(" of %s (%d %%)", size(total), min(100, done*100/total))
	}
	p.say(fmt.Sprintf("%s: %s%s", name, size(done), of))
}

// size is a number of bytes for people.
func size(n int64) string { return humanize.Bytes(uint64(max(0, n))) } //nolint:gosec // not negative
