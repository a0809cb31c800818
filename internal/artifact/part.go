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
)

// part is a file on its way into the cache: NAME.part, which a later run goes
// on with, and NAME.part.json, which says of which version on the server it
// is a part. Neither name is ever looked up as an artifact.
type part struct {
	file *os.File
	path string
	hash hash.Hash
	size int64
	// joined tells that the content came in more than one piece, which need
	// not be of the same file.
	joined bool
}

// version is how an HTTP server tells one content of a URL from another.
type version struct {
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"lastModified,omitempty"`
}

// openPart opens the partial file, hashes what there is of it, and keeps other
// processes off.
func openPart(ctx context.Context, dir, key string) (*part, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, key+".part")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	p := &part{file: f, path: path, hash: sha256.New()}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, errors.New("another firstboot is fetching it")
	}
	if !sameFile(f, path) {
		f.Close() // it is the whole file by now
		return nil, errors.New("another firstboot has just fetched it")
	}
	if p.size, err = io.Copy(p.hash, withContext{ctx, f}); err != nil {
		f.Close()
		return nil, err
	}
	return p, nil
}

func sameFile(f *os.File, path string) bool {
	opened, err := f.Stat()
	named, err2 := os.Lstat(path)
	return err == nil && err2 == nil && os.SameFile(opened, named)
}

func (p *part) write(data []byte) error {
	n, err := p.file.Write(data)
	p.hash.Write(data[:n])
	p.size += int64(n)
	return err
}

// restart empties the partial file.
func (p *part) restart() error {
	if err := p.file.Truncate(0); err != nil {
		return err
	}
	if _, err := p.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	p.hash.Reset()
	p.size, p.joined = 0, false
	return p.setVersion(version{})
}

func (p *part) sum() string { return hex.EncodeToString(p.hash.Sum(nil)) }

// version is what the partial file is a part of, as far as that is known.
func (p *part) version() (v version) {
	f, err := os.Open(p.path + ".json")
	if err != nil {
		return version{}
	}
	defer f.Close()
	err = json.NewDecoder(io.LimitReader(f, 16<<10)).Decode(&v)
	if err != nil || !httpguts.ValidHeaderFieldValue(v.ETag) || !httpguts.ValidHeaderFieldValue(v.LastModified) {
		return version{} // spoiled by a power cut
	}
	return v
}

// setVersion notes what the partial file is a part of. A note that a power
// cut spoils costs no more than a fetch from the start: the digest decides.
func (p *part) setVersion(v version) error {
	if v == (version{}) {
		err := os.Remove(p.path + ".json")
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(p.path+".json", data, 0o600)
}

// commit makes the partial file the whole one: synced, renamed, its folder
// synced, because a rename without that can be undone by a power cut.
func (p *part) commit(path string) error {
	if err := p.file.Sync(); err != nil {
		return err
	}
	if err := os.Rename(p.path, path); err != nil {
		return err
	}
	if err := p.setVersion(version{}); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func (p *part) remove() {
	os.Remove(p.path)
	os.Remove(p.path + ".json")
}

func (p *part) close() { p.file.Close() }

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// fileSum is a regular file's sha256.
func fileSum(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", plain(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, withContext{ctx, f}); err != nil {
		return "", plain(err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// hasSize tells whether path is a regular file of that many bytes.
func hasSize(path string, size int64) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular() && info.Size() == size
}

// plain takes the path out of an error that is reported with one.
func plain(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return fmt.Errorf("%w", p.Err)
	}
	return err
}
