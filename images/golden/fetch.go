package golden

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"sync"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/fault"
	"github.com/projecteru2/firstboot/internal/report"
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
	case fault.IsPermanent(err), errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return backoff.Permanent(err)
	case pause > 0:
		return backoff.RetryAfter(int(math.Ceil(pause.Seconds())))
	}
	return err
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
		of = fmt.Sprintf(" of %s (%d %%)", report.Bytes(total), min(100, done*100/total))
	}
	p.print(fmt.Sprintf("%s: %s%s", name, report.Bytes(done), of))
}
