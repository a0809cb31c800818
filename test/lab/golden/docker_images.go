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

//go:embed docker_images.go
var dockerSources embed.FS

// PingImage is a container image with a static busybox and its ping.
const PingImage = "firstboot-lab/ping:latest"

// loadScript is the init program of the machine that loads the images.
const loadScript = "/usr/lib/firstboot-lab/load-images"

// applets are the busybox applets of the ping image.
var applets = []string{"cat", "hostname", "ifconfig", "ip", "ping", "sh", "sleep"}

// withDockerImages loads container images into the image's Docker. It boots the
// image to do so: Docker on this machine would need a kernel like the image's.
func (o Options) withDockerImages(ctx context.Context, system Image, systemKey string) (Image, string, error) {
	contents, err := cache.Contents(o.DockerImages...)
	if err != nil {
		return Image{}, "", err
	}
	key, err := sourceKey(dockerSources, systemKey, contents)
	if err != nil {
		return Image{}, "", err
	}
	dir, err := o.Store.Get(ctx, "images", key, func(ctx context.Context, dir string) error {
		return o.loadImages(ctx, system, dir)
	})
	return system.Release.imageIn(dir), key, err
}

func (o Options) loadImages(ctx context.Context, system Image, dir string) error {
	i, err := system.copyTo(ctx, dir)
	if err != nil {
		return err
	}
	work := filepath.Join(dir, "work")
	drive := filepath.Join(dir, "archives.raw")
	if err := o.packArchives(ctx, i, work, drive); err != nil {
		return fmt.Errorf("cannot pack the container images: %w", err)
	}
	if err := o.loadInMachine(ctx, i, drive, filepath.Join(work, "machine")); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(work), os.Remove(drive))
}

// packArchives makes a disk with the archives of the images.
func (o Options) packArchives(ctx context.Context, i Image, work, drive string) error {
	dir := filepath.Join(work, "archives")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	size := int64(64 << 20) // file system metadata and the ping image
	for n, path := range o.DockerImages {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		size += info.Size() + info.Size()/16
		if err := run(ctx, "cp", path, filepath.Join(dir, fmt.Sprintf("%d.load", n))); err != nil {
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
	if err := os.WriteFile(filepath.Join(dir, "ping.import"), archive, 0o644); err != nil {
		return err
	}
	return makeDisk(ctx, dir, drive, size)
}

// pingArchive returns the root file system of the ping image as a tar archive.
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
	_, writeErr := w.Write(binary)
	err = errors.Join(err, writeErr)
	for _, name := range applets {
		err = errors.Join(err, w.WriteHeader(&tar.Header{Name: "bin/" + name, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}))
	}
	return out.Bytes(), errors.Join(err, w.Close())
}

// loadInMachine boots the disk itself, not an overlay, with loadScript as its init.
func (o Options) loadInMachine(ctx context.Context, i Image, drive, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	group := procs.NewGroup(dir, false)
	defer group.Close()
	m, err := machine.New(ctx, group, machine.Spec{
		Name: "load-images", Dir: dir, Kernel: i.Kernel, Initrd: i.Initrd, Image: i.Disk, Direct: true,
		Append: i.Release.KernelArguments() + " init=" + loadScript,
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
		return fmt.Errorf("cannot load container images into the golden image; console:\n%s", m.Console.Tail(30))
	}
	return nil
}
