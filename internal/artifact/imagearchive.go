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

	"github.com/projecteru2/firstboot/internal/text"
)

const (
	// maxArchive bounds the uncompressed size of an archive, in bytes;
	// calico/node has 200–400 MB.
	maxArchive = 8 << 30
	// maxArchiveFiles bounds its files; an image has a few per layer.
	maxArchiveFiles = 10_000
	// maxImageManifest bounds its manifest.json, in bytes, and maxTags the
	// number of tags in it.
	maxImageManifest = 1 << 20
	maxTags          = 1000
)

// ReadImageTags returns the tags in an image archive (docker save): a tar file,
// uncompressed or compressed by gzip or bzip2. If the archive contains exactly
// one image, imageID is the image's ID (sha256:…). ReadImageTags reads only the
// archive's manifest; the archive's digest verifies the layers.
func ReadImageTags(path string) (tags []string, imageID string, err error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, "", fmt.Errorf("cannot read the image archive %s: %w", path, withoutPath(err))
	}
	defer f.Close()
	tags, imageID, err = readImageTags(f)
	if err != nil {
		return nil, "", invalidf("create it with docker save", "cannot read the image archive %s: %v", path, err)
	}
	return tags, imageID, nil
}

func readImageTags(f io.ReadSeeker) ([]string, string, error) {
	uncompressed, err := decompress(f)
	if err != nil {
		return nil, "", err
	}
	archive := tar.NewReader(uncompressed)
	for range maxArchiveFiles {
		file, err := archive.Next()
		if err == io.EOF {
			return nil, "", errors.New("no manifest.json")
		}
		if err != nil {
			return nil, "", fmt.Errorf("%s", text.Line(err.Error()))
		}
		if file.Typeflag == tar.TypeReg && (file.Name == "manifest.json" || file.Name == "./manifest.json") {
			data, err := io.ReadAll(io.LimitReader(archive, maxImageManifest+1))
			if err != nil {
				return nil, "", fmt.Errorf("%s", text.Line(err.Error()))
			}
			return decodeImageManifest(data)
		}
	}
	return nil, "", fmt.Errorf("more than %d files", maxArchiveFiles)
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

func decodeImageManifest(data []byte) ([]string, string, error) {
	if len(data) > maxImageManifest {
		return nil, "", fmt.Errorf("manifest.json: more than %d bytes", maxImageManifest)
	}
	var images []struct {
		Config   string
		RepoTags []string
	}
	if err := json.Unmarshal(data, &images); err != nil {
		return nil, "", fmt.Errorf("manifest.json: %s", text.Line(err.Error()))
	}
	if len(images) == 0 {
		return nil, "", errors.New("manifest.json: no images")
	}
	var tags []string
	for _, i := range images {
		tags = append(tags, i.RepoTags...)
	}
	if len(tags) > maxTags {
		return nil, "", fmt.Errorf("more than %d tags", maxTags)
	}
	for i := range tags {
		tags[i] = text.Line(tags[i])
	}
	if m := imageDigest.FindStringSubmatch(images[0].Config); len(images) == 1 && m != nil {
		return tags, "sha256:" + m[1], nil
	}
	return tags, "", nil
}
