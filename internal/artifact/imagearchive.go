package artifact

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/projecteru2/firstboot/internal/text"
)

const (
	// maxArchive bounds the uncompressed size of an archive, in bytes;
	// calico/node has 200–400 MB.
	maxArchive = 8 << 30
	// maxArchiveFiles bounds its files; an image has a few per layer.
	maxArchiveFiles = 10_000
	// maxImageManifest bounds each of its manifests, in bytes, and maxTags the
	// number of tags in them.
	maxImageManifest = 1 << 20
	maxTags          = 1000
)

// ImageArchive is what an image archive (docker save) contains.
type ImageArchive struct {
	Tags []string
	// IDs are the IDs that Docker may give to the archive's image (sha256:…): the
	// digest of its configuration and, if the archive states it, that of its
	// manifest, which is the ID in containerd's image store. There are none if
	// the archive contains several images.
	IDs []string
}

// ReadImageArchive reads an image archive: a tar file, uncompressed or compressed
// by gzip or bzip2. It reads only the archive's manifests; the archive's digest
// verifies the layers.
func ReadImageArchive(path string) (ImageArchive, error) {
	f, err := openRegular(path)
	if err != nil {
		return ImageArchive{}, fmt.Errorf("cannot read the image archive %s: %w", path, withoutPath(err))
	}
	defer f.Close()
	archive, err := readImageArchive(f)
	if err != nil {
		return ImageArchive{}, invalidf("create it with docker save", "cannot read the image archive %s: %v", path, err)
	}
	return archive, nil
}

func readImageArchive(f io.ReadSeeker) (ImageArchive, error) {
	uncompressed, err := decompress(f)
	if err != nil {
		return ImageArchive{}, err
	}
	files, err := readManifests(tar.NewReader(uncompressed))
	if err != nil {
		return ImageArchive{}, err
	}
	manifest, ok := files[dockerManifest]
	if !ok {
		return ImageArchive{}, errors.New("no manifest.json")
	}
	archive, err := decodeImageManifest(manifest)
	if err == nil && len(archive.IDs) > 0 {
		archive.IDs = append(archive.IDs, manifestIDs(files[ociIndex])...)
	}
	return archive, err
}

// The manifests of an archive: Docker's own, and the OCI index, which docker save
// adds from Docker 25 on.
const (
	dockerManifest = "manifest.json"
	ociIndex       = "index.json"
)

// readManifests returns the content of the manifests by name.
func readManifests(archive *tar.Reader) (map[string][]byte, error) {
	found := map[string][]byte{}
	for range maxArchiveFiles {
		file, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s", text.Line(err.Error()))
		}
		name := strings.TrimPrefix(file.Name, "./")
		if file.Typeflag != tar.TypeReg || name != dockerManifest && name != ociIndex {
			continue
		}
		data, err := io.ReadAll(io.LimitReader(archive, maxImageManifest+1))
		if err != nil {
			return nil, fmt.Errorf("%s", text.Line(err.Error()))
		}
		if len(data) > maxImageManifest {
			return nil, fmt.Errorf("%s: more than %d bytes", name, maxImageManifest)
		}
		if found[name] = data; len(found) == 2 {
			return found, nil
		}
	}
	return nil, fmt.Errorf("more than %d files", maxArchiveFiles)
}

// decompress detects the compression by the first bytes, as docker load does.
func decompress(f io.ReadSeeker) (io.Reader, error) {
	start := make([]byte, 6)
	n, err := io.ReadFull(f, start)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, errors.New("empty file")
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, withoutPath(err)
	}
	start = start[:n]
	switch {
	case bytes.HasPrefix(start, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(bufio.NewReader(f))
		if err != nil {
			return nil, err
		}
		return io.LimitReader(z, maxArchive), nil
	case bytes.HasPrefix(start, []byte("BZh")):
		return io.LimitReader(bzip2.NewReader(bufio.NewReader(f)), maxArchive), nil
	case bytes.HasPrefix(start, []byte{0xfd, '7', 'z', 'X', 'Z', 0}), bytes.HasPrefix(start, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return nil, errors.New("xz and zstd are not supported: compress it with gzip")
	}
	return f, nil // seekable, so that the tar reader skips the layers
}

// imageDigest matches the image's ID in the path of its configuration: HEX.json,
// sha256:HEX or blobs/sha256/HEX.
var imageDigest = regexp.MustCompile(`(?:^|[/:])([0-9a-f]{64})(?:\.json)?$`)

func decodeImageManifest(data []byte) (ImageArchive, error) {
	var images []struct {
		Config   string
		RepoTags []string
	}
	if err := json.Unmarshal(data, &images); err != nil {
		return ImageArchive{}, fmt.Errorf("manifest.json: %s", text.Line(err.Error()))
	}
	if len(images) == 0 {
		return ImageArchive{}, errors.New("manifest.json: no images")
	}
	var archive ImageArchive
	for _, i := range images {
		archive.Tags = append(archive.Tags, i.RepoTags...)
	}
	if len(archive.Tags) > maxTags {
		return ImageArchive{}, fmt.Errorf("more than %d tags", maxTags)
	}
	for i := range archive.Tags {
		archive.Tags[i] = text.Line(archive.Tags[i])
	}
	if m := imageDigest.FindStringSubmatch(images[0].Config); len(images) == 1 && m != nil {
		archive.IDs = []string{"sha256:" + m[1]}
	}
	return archive, nil
}

// manifestDigest matches the digest of a manifest.
var manifestDigest = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// manifestIDs returns the digests of the manifests in an OCI index, which may have
// one for each tag of an image. An index that cannot be decoded has none: then
// Docker loads the archive once more than necessary.
func manifestIDs(index []byte) []string {
	var list struct {
		Manifests []struct{ Digest string }
	}
	if json.Unmarshal(index, &list) != nil || len(list.Manifests) > maxTags {
		return nil
	}
	var ids []string
	for _, m := range list.Manifests {
		if manifestDigest.MatchString(m.Digest) && !slices.Contains(ids, m.Digest) {
			ids = append(ids, m.Digest)
		}
	}
	return ids
}
