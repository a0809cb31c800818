package artifact

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/projecteru2/firstboot/internal/fault"
)

// maxResumes bounds how often one fetch resumes an interrupted transfer, as
// long as each transfer makes progress. Further retries are the caller's.
const maxResumes = 5

// fetch fetches an artifact into the cache. It completes the partial file,
// verifies and syncs it, and renames it.
func (s *Store) fetch(ctx context.Context, ref Ref) (string, error) {
	from, err := parseLocation(ref.URL)
	if err != nil {
		return "", ref.permanentError(err, "set its url to an http, https or file url, or to an absolute path")
	}
	p, err := openPartial(ctx, s.cache, ref.key(), s.record)
	if err != nil {
		return "", ref.transientError(s.explainDiskError(err))
	}
	defer p.close()
	s.digests.count(p.path)
	if ref.SHA256 == "" {
		// Without a digest, damage by a power cut would go unnoticed.
		if err := p.reset(); err != nil {
			return "", ref.transientError(s.explainDiskError(err))
		}
	}
	for {
		truncated, err := s.complete(ctx, ref, from, p)
		if err != nil {
			return "", s.keepPartial(ref, p, err)
		}
		digest := p.digest()
		if ref.SHA256 == "" || digest == ref.SHA256 {
			return s.commit(ref, p)
		}
		size, resumed := p.size, p.resumed
		if err := p.reset(); err != nil {
			return "", ref.transientError(s.explainDiskError(err))
		}
		if resumed {
			s.log(fmt.Sprintf("the parts of %s do not match; fetching the whole file", ref.Name))
			continue
		}
		p.remove()
		return "", &MismatchError{Name: ref.Name, Source: redact(ref.URL), Want: ref.SHA256, Got: digest, Size: size, MaybeTruncated: truncated}
	}
}

// keepPartial keeps the partial file of a failed fetch for the next attempt. It
// removes the file if it is empty, the disk is full or a retry cannot help. A file
// without a digest is not continued.
func (s *Store) keepPartial(ref Ref, p *partialFile, err error) error {
	err = ref.transientError(s.explainDiskError(err))
	if p.size == 0 || ref.SHA256 == "" || fault.IsPermanent(err) || errors.Is(err, syscall.ENOSPC) {
		p.remove()
	} else if syncErr := p.record.sync(p.file); syncErr != nil {
		p.remove()
	}
	return err
}

// commit renames the verified partial file to its name in the cache.
func (s *Store) commit(ref Ref, p *partialFile) (string, error) {
	if err := p.commit(s.cachePath(ref)); err != nil {
		return "", ref.transientError(s.explainDiskError(err))
	}
	s.digests.remember(p.file, p.digest())
	return s.cachePath(ref), nil
}

// complete adds the missing bytes to the partial file. maybeTruncated reports
// whether the source did not send the size.
func (s *Store) complete(ctx context.Context, ref Ref, from location, p *partialFile) (maybeTruncated bool, err error) {
	if ref.SHA256 != "" && p.size > 0 && p.digest() == ref.SHA256 {
		return false, nil // interrupted between the last byte and the rename
	}
	progress := &progressReporter{notify: func(done, total int64) { s.progress.notify(ref.key(), done, total) }}
	if from.remote == nil {
		return false, s.copyFile(ctx, ref, from.path, p, progress)
	}
	for resumes := 0; ; resumes++ {
		before := p.size
		maybeTruncated, err = s.download(ctx, ref, from.remote, p, progress)
		if err == nil || fault.IsPermanent(err) || ctx.Err() != nil || !isInterrupted(err) || p.size <= before || resumes == maxResumes {
			return maybeTruncated, err
		}
	}
}

// copyFile copies a local file into the partial file.
func (s *Store) copyFile(ctx context.Context, ref Ref, path string, p *partialFile, progress *progressReporter) error {
	if err := p.reset(); err != nil {
		return err
	}
	f, err := openRegular(path)
	if err != nil {
		return ref.permanentError(withoutPath(err), "check the path, and that its file system is mounted when firstboot runs")
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ref.transientError(withoutPath(err))
	}
	if err := s.checkSize(ref, p, info.Size()); err != nil {
		return err
	}
	return s.appendFrom(ref, p, contextReader{ctx, f}, info.Size(), progress)
}

// checkSize fails if the whole file is too large or the disk has too little
// free space. total is 0 if the size is unknown.
func (s *Store) checkSize(ref Ref, p *partialFile, total int64) error {
	if total > s.maxSize {
		return ref.permanentError(fmt.Errorf("%d bytes are more than the maximum of %d", total, s.maxSize), "check the url")
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(s.cache, &fs); err != nil {
		return nil //nolint:nilerr // the write reports it
	}
	free := int64(fs.Bavail) * fs.Bsize
	if need := total - p.size; need > free {
		return s.explainDiskError(fmt.Errorf("%d bytes needed, %d bytes free: %w", need, free, syscall.ENOSPC))
	}
	return nil
}

// appendFrom appends the bytes of from to the partial file. total is the size of
// the whole file, or 0 if it is unknown.
func (s *Store) appendFrom(ref Ref, p *partialFile, from io.Reader, total int64, progress *progressReporter) error {
	limit := s.maxSize
	if total > 0 {
		limit = total
	}
	progress.report(p.size, total)
	buf := make([]byte, 128<<10)
	for {
		n, readErr := from.Read(buf)
		if n > 0 {
			if p.size+int64(n) > limit {
				return ref.permanentError(fmt.Errorf("more than %d bytes", limit), "check the url")
			}
			if err := p.write(buf[:n]); err != nil {
				return err
			}
			progress.update(p.size, total)
		}
		if readErr == io.EOF {
			break
		}
		if readErr != nil {
			return &interruptedError{received: p.size, total: total, err: readErr}
		}
	}
	if p.size < total {
		return &interruptedError{received: p.size, total: total, err: io.ErrUnexpectedEOF}
	}
	progress.report(p.size, p.size)
	return nil
}

// interruptedError means that a transfer ended before the file was complete.
type interruptedError struct {
	received, total int64 // in bytes; total is 0 if it is unknown
	err             error
}

func (e *interruptedError) Error() string {
	if e.total > 0 {
		return fmt.Sprintf("interrupted at %d of %d bytes: %v", e.received, e.total, e.err)
	}
	return fmt.Sprintf("interrupted at %d bytes: %v", e.received, e.err)
}

func (e *interruptedError) Unwrap() error { return e.err }

func isInterrupted(err error) bool {
	var e *interruptedError
	return errors.As(err, &e)
}

// explainDiskError adds a hint to the error of a full or read-only disk.
func (s *Store) explainDiskError(err error) error {
	if fault.ClassOf(err) != fault.Unclassified {
		return err
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return diskError(fmt.Errorf("no space left in %s: %w", s.cache, err), "free up space there; firstboot then continues by itself")
	case errors.Is(err, syscall.EROFS):
		return diskError(fmt.Errorf("cannot write to %s: %w", s.cache, err), "mount it read-write")
	}
	return err
}

// diskError is a disk problem that a person can fix while the caller waits.
func diskError(err error, hint string) error {
	return fault.WithHint(fault.Transient, fault.Disk, err, hint)
}
