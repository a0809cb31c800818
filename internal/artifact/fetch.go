package artifact

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// maxResumes is how often one fetch goes on by itself after the connection
// broke, as long as each try brought something; then the caller decides.
const maxResumes = 5

// fetch brings an artifact into the cache: a partial file, filled from where
// it ends, verified, synced, renamed.
func (s *Store) fetch(ctx context.Context, ref Ref) (string, error) {
	from, err := locate(ref.URL)
	if err != nil {
		return "", ref.fail(err, true, "url is http, https, file or a plain path")
	}
	p, err := openPart(ctx, s.cache, ref.key())
	if err != nil {
		return "", ref.fail(s.diskError(err), false, "")
	}
	defer p.close()
	if ref.SHA256 == "" {
		// Without a digest nothing would notice a partial file that a power
		// cut damaged, so it is never gone on with.
		if err := p.restart(); err != nil {
			return "", ref.fail(s.diskError(err), false, "")
		}
	}
	for {
		cutShort, err := s.fill(ctx, ref, from, p)
		if err != nil {
			return "", s.giveUp(ref, p, err)
		}
		got := p.sum()
		if ref.SHA256 == "" || got == ref.SHA256 {
			return s.store(ref, p)
		}
		size, joined := p.size, p.joined
		if err := p.restart(); err != nil {
			return "", ref.fail(s.diskError(err), false, "")
		}
		if joined {
			s.log(fmt.Sprintf("what there was of %s did not fit what came after it; fetching it whole", ref.Name))
			continue
		}
		p.remove()
		return "", &MismatchError{Name: ref.Name, Source: redact(ref.URL), Want: ref.SHA256, Got: got, Size: size, CutShort: cutShort}
	}
}

// giveUp keeps what there is for the next try, unless it fills the disk or the
// source is hopeless.
func (s *Store) giveUp(ref Ref, p *part, err error) error {
	err = ref.fail(s.diskError(err), false, "")
	if p.size == 0 || IsPermanent(err) || errors.Is(err, syscall.ENOSPC) {
		p.remove()
	} else if syncErr := p.file.Sync(); syncErr != nil {
		p.remove()
	}
	return err
}

// store puts a verified partial file into its place.
func (s *Store) store(ref Ref, p *part) (string, error) {
	if err := p.commit(s.cached(ref)); err != nil {
		return "", ref.fail(s.diskError(err), false, "")
	}
	return s.cached(ref), nil
}

// fill brings the partial file to its end. cutShort tells that the source did
// not say where the end is.
func (s *Store) fill(ctx context.Context, ref Ref, from location, p *part) (cutShort bool, err error) {
	if ref.SHA256 != "" && p.size > 0 && p.sum() == ref.SHA256 {
		return false, nil // the power went between the last byte and the rename
	}
	tell := &teller{tell: func(done, total int64) { s.audience.tell(ref.key(), done, total) }}
	if from.remote == nil {
		return false, s.copyFile(ctx, ref, from.path, p, tell)
	}
	for resumes := 0; ; resumes++ {
		before := p.size
		cutShort, err = s.download(ctx, ref, from.remote, p, tell)
		if err == nil || IsPermanent(err) || ctx.Err() != nil || !brokenOff(err) || p.size <= before || resumes == maxResumes {
			return cutShort, err
		}
	}
}

// copyFile takes an artifact from a file of this machine.
func (s *Store) copyFile(ctx context.Context, ref Ref, path string, p *part, tell *teller) error {
	if err := p.restart(); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return ref.fail(plain(err), true, "is the path right, and there at this time of the boot?")
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ref.fail(plain(err), false, "")
	}
	if !info.Mode().IsRegular() {
		return ref.fail(errors.New("it is no regular file"), true, "")
	}
	if err := s.roomFor(ref, p, info.Size()); err != nil {
		return err
	}
	return s.pour(ref, p, withContext{ctx, f}, info.Size(), tell)
}

// roomFor refuses before the first byte what is too large, or larger than the
// free space. total is 0 while it is not known.
func (s *Store) roomFor(ref Ref, p *part, total int64) error {
	if total > s.maxSize {
		return ref.fail(fmt.Errorf("it has %d bytes, more than the %d that are allowed", total, s.maxSize), true, "is the url right?")
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(s.cache, &fs); err != nil {
		return nil //nolint:nilerr // the write will tell
	}
	free := int64(fs.Bavail) * fs.Bsize
	if need := total - p.size; need > free {
		return s.diskError(fmt.Errorf("%d bytes are needed, %d are free: %w", need, free, syscall.ENOSPC))
	}
	return nil
}

// pour appends from's bytes to the partial file. total is what the whole file
// will have, 0 if that is not known.
func (s *Store) pour(ref Ref, p *part, from io.Reader, total int64, tell *teller) error {
	limit := s.maxSize
	if total > 0 {
		limit = total
	}
	tell.say(p.size, total, true)
	buf := make([]byte, 128<<10)
	for {
		n, readErr := from.Read(buf)
		if n > 0 {
			if p.size+int64(n) > limit {
				return ref.fail(fmt.Errorf("it has more than %d bytes", limit), true, "is the url right?")
			}
			if err := p.write(buf[:n]); err != nil {
				return err
			}
			tell.say(p.size, total, false)
		}
		if readErr == io.EOF {
			break
		}
		if readErr != nil {
			return &broken{at: p.size, total: total, err: readErr}
		}
	}
	if p.size < total {
		return &broken{at: p.size, total: total, err: io.ErrUnexpectedEOF}
	}
	tell.say(p.size, p.size, true)
	return nil
}

// broken says that a source ended before the file did.
type broken struct {
	at, total int64
	err       error
}

func (b *broken) Error() string {
	if b.total > 0 {
		return fmt.Sprintf("it broke off at %d of %d bytes: %v", b.at, b.total, plainNet(b.err))
	}
	return fmt.Sprintf("it broke off at %d bytes: %v", b.at, plainNet(b.err))
}

func (b *broken) Unwrap() error { return b.err }

func brokenOff(err error) bool {
	var b *broken
	return errors.As(err, &b)
}

// diskError says what a full or read-only disk means.
func (s *Store) diskError(err error) error {
	var already verdict
	if errors.As(err, &already) {
		return err
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &diskFull{fmt.Errorf("no space left in %s: %w", s.cache, err), "free space there, then it goes on by itself"}
	case errors.Is(err, syscall.EROFS):
		return &diskFull{fmt.Errorf("%s cannot be written: %w", s.cache, err), "mount it writable"}
	}
	return err
}

// diskFull is a lack that a person can cure while the caller tries again.
type diskFull struct {
	error
	advice string
}

func (d *diskFull) Unwrap() error { return d.error }
func (d *diskFull) Hint() string  { return d.advice }

// withContext ends a read of a slow file system when its context does.
type withContext struct {
	ctx context.Context
	io.Reader
}

func (r withContext) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}
