// Package golden builds the lab's golden image: a Debian 12 disk with Docker,
// rpm and firstboot in it, and the kernel and initrd that boot it directly.
//
// It is built in three steps, each kept in the cache: the system (minutes), the
// container images in its Docker (a minute, by booting it once), and on top of
// these firstboot, its configuration and its bundle (seconds).
//
// It knows nothing of who a machine is: a host name and an address come from
// the kernel's command line.
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

// Options say what goes into the image.
type Options struct {
	Store  cache.Store
	Accel  func(kernel string) machine.Accel // how to run the machine that loads the images
	Mirror string                            // of Debian; empty: mmdebstrap's own

	// DockerImages are image archives for the image's own Docker.
	DockerImages []string

	Firstboot     string          // the static binary
	Config        []byte          // /etc/firstboot/config.yaml
	Bundle        []artifact.Item // /usr/lib/firstboot/bundle; none: no bundle
	AuthorizedKey []byte          // root's way in by SSH
	Files         []File          // whatever else a story needs
}

// File is a file of the image.
type File struct {
	Path string
	Data []byte
	Mode os.FileMode
}

// Image boots directly: kernel, initrd, and a raw disk without partitions.
type Image struct {
	Disk, Kernel, Initrd string
	// Key is made of all that the image was built from.
	Key string
}

// The files of a cache entry.
const (
	diskFile   = "disk.raw"
	kernelFile = "vmlinuz"
	initrdFile = "initrd"
)

// KernelArguments are those that every machine of the image is booted with.
//
//   - apparmor=0: the image has no apparmor_parser, and Docker then refuses to
//     start containers.
//   - net.ifnames=0: the card is eth0, as ip= on the same line says.
//   - noinit_itable: mkfs left inode tables to be zeroed by the running
//     system, which would go on beside the first boot.
//   - nr_uarts=1: udev need not wait for three ports that are not there.
const KernelArguments = "quiet apparmor=0 net.ifnames=0 rootflags=noinit_itable 8250.nr_uarts=1"

// Build returns the image, built or from the cache.
func Build(ctx context.Context, o Options) (Image, error) {
	base, err := Base(ctx, o)
	if err != nil {
		return Image{}, err
	}
	return o.finished(ctx, base)
}

// Base returns the image without firstboot: a bare host of the operators, with
// the container images in its Docker.
func Base(ctx context.Context, o Options) (Image, error) {
	system, systemKey, err := o.system(ctx)
	if err != nil {
		return Image{}, err
	}
	i, key, err := o.loaded(ctx, system, systemKey)
	i.Key = key
	return i, err
}

// Derive returns an image, built or from the cache under a name, that is
// another with what change did to its mounted root. Inputs are all that change
// depends on; change works in its own goroutine.
func Derive(ctx context.Context, store cache.Store, from Image, name string, inputs []string, change func(ctx context.Context, root string) error) (Image, error) {
	key := cache.Key(slices.Concat(inputs, []string{from.Key})...)
	dir, err := store.Get(ctx, name, key, func(ctx context.Context, dir string) error {
		i, err := from.copyTo(ctx, dir)
		if err != nil {
			return err
		}
		return Mounted(ctx, i.Disk, func(root string) error { return change(ctx, root) })
	})
	i := imageIn(dir)
	i.Key = key
	return i, err
}

func imageIn(dir string) Image {
	return Image{
		Disk:   filepath.Join(dir, diskFile),
		Kernel: filepath.Join(dir, kernelFile),
		Initrd: filepath.Join(dir, initrdFile),
	}
}

// copyTo makes dir the same image, to be changed. Holes stay holes, and where
// the file system can, blocks are shared.
func (i Image) copyTo(ctx context.Context, dir string) (Image, error) {
	to := imageIn(dir)
	for from, to := range map[string]string{i.Kernel: to.Kernel, i.Initrd: to.Initrd} {
		if err := os.Link(from, to); err != nil {
			return Image{}, fmt.Errorf("cannot copy the image: %w", err)
		}
	}
	return to, run(ctx, "cp", "--reflink=auto", "--sparse=always", i.Disk, to.Disk)
}
