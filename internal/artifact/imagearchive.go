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
	"os"
	"regexp"
)

const (
	// maxArchive bounds what an archive may unpack to while it is read, in
	// bytes; calico/node unpacks to 200–400 MB.
	maxArchive = 8 << 30
	// maxArchiveFiles bounds its entries; an image has a few per layer.
	maxArchiveFiles = 10_000
	// maxImageManifest bounds its manifest.json, in bytes, and maxTags what
	// that may list.
	maxImageManifest = 1 << 20
	maxTags          = 1000
)

// ReadImageTags reads from an image archive, as docker save writes it and
// docker load takes it (tar, plain or gzip or bzip2), which tags it carries.
// imageID is the image's ID (sha256:…) where the archive holds exactly one
// image, else empty. Only its manifest is looked at: whether the layers are
// whole is known by its sha256.
func ReadImageTags(path string) (tags []string, imageID string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, "", fmt.Errorf("cannot read the image archive %s: %w", path, plain(err))
	}
	defer f.Close()
	tags, imageID, err = readImageTags(f)
	if err != nil {
		return nil, "", refuse("an image archive is what docker save writes", "cannot read the image archive %s: %v", path, err)
	}
	return tags, imageID, nil
}

func readImageTags(f io.ReadSeeker) ([]string, string, error) {
	unpacked, err := unpack(f)
	if err != nil {
		return nil, "", err
	}
	archive := tar.NewReader(unpacked)
	for range maxArchiveFiles {
		file, err := archive.Next()
		if err == io.EOF {
			return nil, "", errors.New("it has no manifest.json")
		}
		if err != nil {
			return nil, "", fmt.Errorf("%s", clip(err.Error()))
		}
		if file.Typeflag == tar.TypeReg && (file.Name == "manifest.json" || file.Name == "./manifest.json") {
			data, err := io.ReadAll(io.LimitReader(archive, maxImageManifest+1))
			if err != nil {
				return nil, "", fmt.Errorf("%s", clip(err.Error()))
			}
			return decodeImageManifest(data)
		}
	}
	return nil, "", fmt.Errorf("it has more than %d files", maxArchiveFiles)
}

// unpack looks at the first bytes, not at the name, as docker load does.
func unpack(f io.ReadSeeker) (io.Reader, error) {
	start := make([]byte, 6)
	n, err := io.ReadFull(f, start)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, errors.New("it is empty")
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, plain(err)
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
		return nil, errors.New("xz and zstd are not looked into: compress it with gzip")
	}
	return f, nil // a tar that can be seeked in: layers are not read
}

// imageDigest finds the image's ID in the path of its configuration:
// HEX.json, sha256:HEX, blobs/sha256/HEX.
var imageDigest = regexp.MustCompile(`(?:^|[/:])([0-9a-f]{64})(?:\.json)?$`)

func decodeImageManifest(data []byte) ([]string, string, error) {
	if len(data) > maxImageManifest {
		return nil, "", fmt.Errorf("its manifest.json has more than %d bytes", maxImageManifest)
	}
	var images []struct {
		Config   string
		RepoTags []string
	}
	if err := json.Unmarshal(data, &images); err != nil {
		return nil, "", fmt.Errorf("its manifest.json: %s", clip(err.Error()))
	}
	if len(images) == 0 {
		return nil, "", errors.New("its manifest.json names no image")
	}
	var tags []string
	for _, i := range images {
		tags = append(tags, i.RepoTags...)
	}
	if len(tags) > maxTags {
		return nil, "", fmt.Errorf("it has more than %d tags", maxTags)
	}
	for i := range tags {
		tags[i] = clip(tags[i])
	}
	if m := imageDigest.FindStringSubmatch(images[0].Config); len(images) == 1 && m != nil {
		return tags, "sha256:" + m[1], nil
	}
	return tags, "", nil
}
