package artifact

import (
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"

	"github.com/projecteru2/firstboot/internal/host"
)

// digests are the digests of files that this process has read, by their stamp
// (host.Stamp): a file that was replaced or written since is not among them. The
// zero value has none.
type digests struct {
	mu      sync.Mutex
	byStamp map[string]string
	hashing func(path string)
}

// of returns the sha256 of an open file. It reads the file only if its digest is
// not known.
func (d *digests) of(ctx context.Context, f *os.File) (string, error) {
	if digest, known := d.known(f); known {
		return digest, nil
	}
	d.count(f.Name())
	before := stampOf(f)
	digest, err := digestFrom(ctx, f)
	if err == nil && before == stampOf(f) {
		d.remember(f, digest)
	}
	return digest, err
}

// known returns the digest of an open file that is unchanged since it was read.
func (d *digests) known(f *os.File) (digest string, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	digest, known = d.byStamp[stampOf(f)]
	return digest, known
}

// remember stores the digest of an open file.
func (d *digests) remember(f *os.File, digest string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	stamp := stampOf(f)
	if stamp == "" {
		return
	}
	if d.byStamp == nil {
		d.byStamp = map[string]string{}
	}
	d.byStamp[stamp] = digest
}

// count reports that a digest is computed.
func (d *digests) count(path string) {
	if d.hashing != nil {
		d.hashing(path)
	}
}

// stampOf returns the stamp of an open file, "" if it has none.
func stampOf(f *os.File) string {
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprint(stat.Dev, host.Stamp(info))
}
