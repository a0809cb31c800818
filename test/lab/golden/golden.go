// Package golden builds the lab's golden images: a disk with Debian 12 or 13,
// Docker, rpm and firstboot, and the kernel and initrd to boot it directly.
//
// The build has three steps. The result of each is cached: the system (takes
// minutes); the container images in its Docker (one minute, by booting it once);
// firstboot with its configuration and its bundle (seconds).
//
// An image has no machine identity. Host name and address are set on the
// kernel command line.
package golden

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/test/lab/cache"
	"github.com/projecteru2/firstboot/test/lab/machine"
)

// Options configure the image.
type Options struct {
	Release Release // empty: Debian 12

	Store  cache.Store
	Accel  func(kernel string) machine.Accel // acceleration for the machine that loads the images
	Mirror string                            // Debian mirror; empty: mmdebstrap's default

	// DockerImages are image archives to load into the image's Docker.
	DockerImages []string

	Firstboot     string          // the static binary
	Config        []byte          // /etc/firstboot/config.yaml
	Bundle        []artifact.Item // /usr/lib/firstboot/bundle; empty: no bundle
	AuthorizedKey []byte          // public SSH key of root
	Files         []File          // other files that a scenario needs
}

// File is a file in the image.
type File struct {
	Path string
	Data []byte
	Mode os.FileMode
}

// Image is a kernel, an initrd, and a raw disk without partitions.
type Image struct {
	Disk, Kernel, Initrd string
	Release              Release
	// Key is the cache key. It depends on all inputs of the image.
	Key string
}

// Names of the files in a cache entry.
const (
	diskFile   = "disk.raw"
	kernelFile = "vmlinuz"
	initrdFile = "initrd"
)

// Build returns the image. It builds the image if it is not in the cache.
func Build(ctx context.Context, o Options) (Image, error) {
	base, err := Base(ctx, o)
	if err != nil {
		return Image{}, err
	}
	return o.withFirstboot(ctx, base)
}

// Base returns the image without firstboot: an operator's bare host, with the
// container images in its Docker.
func Base(ctx context.Context, o Options) (Image, error) {
	o.Release = o.Release.orDefault()
	system, systemKey, err := o.system(ctx)
	if err != nil {
		return Image{}, err
	}
	i, key, err := o.withDockerImages(ctx, system, systemKey)
	i.Key = key
	return i, err
}

// Derive returns a copy of an image, modified by change. It uses the cache entry
// with this name if one matches. change gets the mounted root and must not use
// other goroutines. inputs must contain everything that change depends on.
func Derive(ctx context.Context, store cache.Store, from Image, name string, inputs []string, change func(ctx context.Context, root string) error) (Image, error) {
	key := cache.Key(slices.Concat(inputs, []string{from.Key})...)
	dir, err := store.Get(ctx, name, key, func(ctx context.Context, dir string) error {
		i, err := from.copyTo(ctx, dir)
		if err != nil {
			return err
		}
		return WithMounted(ctx, i.Disk, func(root string) error { return change(ctx, root) })
	})
	i := from.Release.imageIn(dir)
	i.Key = key
	return i, err
}

// imageIn returns the image in a cache entry.
func (r Release) imageIn(dir string) Image {
	return Image{
		Release: r,

		Disk:   filepath.Join(dir, diskFile),
		Kernel: filepath.Join(dir, kernelFile),
		Initrd: filepath.Join(dir, initrdFile),
	}
}

// copyTo copies the image to dir. The copied disk stays sparse and shares blocks
// with the original if the file system supports it.
func (i Image) copyTo(ctx context.Context, dir string) (Image, error) {
	to := i.Release.imageIn(dir)
	for from, to := range map[string]string{i.Kernel: to.Kernel, i.Initrd: to.Initrd} {
		if err := os.Link(from, to); err != nil {
			return Image{}, fmt.Errorf("cannot copy the image: %w", err)
		}
	}
	return to, run(ctx, "cp", "--reflink=auto", "--sparse=always", i.Disk, to.Disk)
}
