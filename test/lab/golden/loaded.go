package golden

import (
	"archive/tar"
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/projecteru2/firstboot/test/lab/cache"
	"github.com/projecteru2/firstboot/test/lab/machine"
	"github.com/projecteru2/firstboot/test/lab/procs"
)

//go:embed loaded.go
var loadedSources embed.FS

// PingImage is an image of a static busybox, for containers that ping.
const PingImage = "firstboot-lab/ping:latest"

// loadScript is the init of the machine that loads the images.
const loadScript = "/usr/lib/firstboot-lab/load-images"

// applets are the names under which the ping image's busybox is called.
var applets = []string{"cat", "hostname", "ifconfig", "ip", "ping", "sh", "sleep"}

// loaded puts container images into the Docker of the image: by booting it, as
// a Docker run on this machine would need a kernel like the image's.
func (o Options) loaded(ctx context.Context, system Image, systemKey string) (Image, string, error) {
	contents, err := cache.Contents(o.DockerImages...)
	if err != nil {
		return Image{}, "", err
	}
	key, err := sourceKey(loadedSources, systemKey, contents)
	if err != nil {
		return Image{}, "", err
	}
	dir, err := o.Store.Get(ctx, "images", key, func(ctx context.Context, dir string) error {
		return o.buildLoaded(ctx, system, dir)
	})
	return imageIn(dir), key, err
}

func (o Options) buildLoaded(ctx context.Context, system Image, dir string) error {
	i, err := system.copyTo(ctx, dir)
	if err != nil {
		return err
	}
	work := filepath.Join(dir, "work")
	drive := filepath.Join(dir, "archives.raw")
	if err := o.archives(ctx, i, work, drive); err != nil {
		return fmt.Errorf("cannot collect container images: %w", err)
	}
	if err := o.load(ctx, i, drive, filepath.Join(work, "machine")); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(work), os.Remove(drive))
}

// archives makes a disk of the images that are to be loaded.
func (o Options) archives(ctx context.Context, i Image, work, drive string) error {
	folder := filepath.Join(work, "archives")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	size := int64(64 << 20) // the file system's own, and the ping image
	for n, path := range o.DockerImages {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		size += info.Size() + info.Size()/16
		if err := run(ctx, "cp", path, filepath.Join(folder, fmt.Sprintf("%d.load", n))); err != nil {
			return err
		}
	}
	busybox := filepath.Join(work, "busybox")
	if err := run(ctx, "debugfs", "-R", "dump /bin/busybox "+busybox, i.Disk); err != nil {
		return err
	}
	archive, err := pingArchive(busybox)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(folder, "ping.import"), archive, 0o644); err != nil {
		return err
	}
	return makeDisk(ctx, folder, drive, size)
}

// pingArchive is the root file system of the ping image.
func pingArchive(busybox string) ([]byte, error) {
	binary, err := os.ReadFile(busybox)
	if err != nil || len(binary) == 0 {
		return nil, fmt.Errorf("the image has no /bin/busybox (%w)", err)
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, dir := range []string{"bin/", "proc/", "sys/", "tmp/"} {
		err = errors.Join(err, w.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755}))
	}
	err = errors.Join(err, w.WriteHeader(&tar.Header{Name: "bin/busybox", Mode: 0o755, Size: int64(len(binary))}))
	_, failed := w.Write(binary)
	err = errors.Join(err, failed)
	for _, name := range applets {
		err = errors.Join(err, w.WriteHeader(&tar.Header{Name: "bin/" + name, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}))
	}
	return out.Bytes(), errors.Join(err, w.Close())
}

// load boots the disk itself, not an overlay, with the script as its init.
func (o Options) load(ctx context.Context, i Image, drive, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	group := procs.NewGroup(dir, false)
	defer group.Close()
	m, err := machine.New(ctx, group, machine.Spec{
		Name: "load-images", Dir: dir, Kernel: i.Kernel, Initrd: i.Initrd, Image: i.Disk, Direct: true,
		Append: KernelArguments + " init=" + loadScript,
		CPUs:   2, MemoryMB: 2048, CodeMB: 1024, Accel: o.Accel(i.Kernel),
		Drives: []machine.Drive{{Path: drive, ReadOnly: true}},
	})
	if err != nil {
		return err
	}
	if err := m.Start(ctx); err != nil {
		return err
	}
	if err := m.WaitOff(ctx); err != nil {
		return fmt.Errorf("cannot load container images into the golden image: %w\n%s", err, m.Console.Tail(30))
	}
	if !slices.Contains(strings.Split(m.Console.Text(), "\n"), "load-images: done") {
		return fmt.Errorf("cannot load container images into the golden image; the machine that did it said:\n%s", m.Console.Tail(30))
	}
	return nil
}
