package artifact

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/net/http/httpguts"

	"github.com/projecteru2/firstboot/internal/host"
)

// partialFile is an incomplete file in the cache: NAME.part, which a later
// fetch continues, and NAME.part.json with the validators of the server's file.
// Neither name is a cache key.
type partialFile struct {
	file *os.File
	path string
	hash hash.Hash
	size int64
	// resumed is set if the content comes from several responses, which may
	// belong to different files.
	resumed bool
	record  recorder
}

// validators are the response headers that identify a version of a file (RFC
// 9110).
type validators struct {
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"lastModified,omitempty"`
}

// openPartial opens or creates the partial file, locks it against other
// processes, and hashes its content.
func openPartial(ctx context.Context, dir, key string, record recorder) (*partialFile, error) {
	if err := makeCache(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, key+".part")
	_, statErr := os.Lstat(path)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, privateMode)
	if err != nil {
		return nil, err
	}
	if statErr != nil {
		_ = record.did(host.FileOp{Kind: host.OpCreate, Path: path, Mode: privateMode}, nil)
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, errNotRegular)
	}
	p := &partialFile{file: f, path: path, hash: sha256.New(), record: record}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, errors.New("another firstboot process is fetching it")
	}
	if !isSameFile(f, path) {
		f.Close() // the other process has renamed it
		return nil, errors.New("another firstboot process has just fetched it")
	}
	if p.size, err = io.Copy(p.hash, contextReader{ctx, f}); err != nil {
		f.Close()
		return nil, err
	}
	return p, nil
}

// makeCache creates the directory of the cache (0700) and its parents (0755),
// which hold other files, too.
func makeCache(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := host.New("/").MkdirAll(filepath.Dir(dir)); err != nil {
		return bareCause(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return withoutPath(err)
	}
	return nil
}

// isSameFile reports whether path is still the opened file.
func isSameFile(f *os.File, path string) bool {
	opened, err := f.Stat()
	named, err2 := os.Lstat(path)
	return err == nil && err2 == nil && os.SameFile(opened, named)
}

func (p *partialFile) write(data []byte) error {
	n, err := p.record.write(p.file, data)
	p.hash.Write(data[:n])
	p.size += int64(n)
	return err
}

// reset empties the partial file.
func (p *partialFile) reset() error {
	if err := p.record.empty(p.file); err != nil {
		return err
	}
	if _, err := p.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	p.hash.Reset()
	p.size, p.resumed = 0, false
	return p.setValidators(validators{})
}

func (p *partialFile) digest() string { return hex.EncodeToString(p.hash.Sum(nil)) }

// validators reads the recorded validators. They are empty if none are recorded
// or a power cut damaged them.
func (p *partialFile) validators() (v validators) {
	if info, err := os.Lstat(p.path + ".json"); err != nil || !info.Mode().IsRegular() {
		return validators{}
	}
	f, err := openRegular(p.path + ".json")
	if err != nil {
		return validators{}
	}
	defer f.Close()
	return parseValidators(io.LimitReader(f, 16<<10))
}

// parseValidators returns the recorded validators. They are empty if one of them
// cannot be sent in a header.
func parseValidators(r io.Reader) (v validators) {
	err := json.NewDecoder(r).Decode(&v)
	if err != nil || !httpguts.ValidHeaderFieldValue(v.ETag) || !httpguts.ValidHeaderFieldValue(v.LastModified) {
		return validators{}
	}
	return v
}

// setValidators records the validators. It need not be durable: the digest
// reveals a wrong continuation, and the file is then fetched from the start.
func (p *partialFile) setValidators(v validators) error {
	if v == (validators{}) {
		return p.record.remove(p.path + ".json")
	}
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	// Replaced rather than overwritten, so that a link is not followed.
	if err := p.setValidators(validators{}); err != nil {
		return err
	}
	f, err := p.record.create(p.path + ".json")
	if err != nil {
		return err
	}
	_, err = p.record.write(f, data)
	return errors.Join(err, f.Close())
}

// commit syncs the file, renames it to path and syncs the directory, because a
// power cut can undo a rename that is not synced.
func (p *partialFile) commit(path string) error {
	if err := p.record.sync(p.file); err != nil {
		return err
	}
	if err := p.record.rename(p.path, path); err != nil {
		return err
	}
	if err := p.setValidators(validators{}); err != nil {
		return err
	}
	return p.record.syncDir(filepath.Dir(path))
}

func (p *partialFile) remove() {
	_ = p.record.remove(p.path) // the next fetch replaces what is left
	_ = p.record.remove(p.path + ".json")
}

func (p *partialFile) close() { p.file.Close() }
