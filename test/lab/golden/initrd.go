package golden

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cavaliergopher/cpio"
	"github.com/ulikunitz/xz"
)

// diskModules are the modules that a virtio disk needs, in the order of their
// dependencies. Debian 13's cloud kernel has most of them built in, and both
// have ext4 built in.
var diskModules = []string{"virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_blk"}

// initScript mounts the disk and starts its init. Debian's own initrd does the
// same but takes some seconds longer.
const initScript = `#!/bin/busybox sh
bb=/bin/busybox
$bb mount -t devtmpfs dev /dev
for module in %s; do $bb insmod /modules/$module.ko; done
attempts=0
while [ ! -b /dev/vda ]; do
	$bb usleep 20000
	attempts=$((attempts + 1))
	if [ $attempts -gt 1500 ]; then echo 'no disk after 30 s'; exec $bb sh; fi
done
# Read init= and rootflags= from the kernel command line.
$bb mount -t proc proc /proc
init=/sbin/init flags=rw
for argument in $($bb cat /proc/cmdline); do
	case $argument in
	init=*) init=${argument#init=} ;;
	rootflags=*) flags=rw,${argument#rootflags=} ;;
	esac
done
$bb umount /proc
$bb mount -t ext4 -o $flags /dev/vda /root || exec $bb sh
$bb mount -o move /dev /root/dev
exec $bb switch_root /root $init
`

// makeInitrd writes an initrd with busybox, the disk modules and the script.
func makeInitrd(root, release, path string) error {
	modules, err := findModules(filepath.Join(root, "usr/lib/modules", release))
	if err != nil {
		return err
	}
	busybox, err := os.ReadFile(filepath.Join(root, "bin/busybox"))
	if err != nil {
		return err
	}
	var names []string
	for _, name := range diskModules {
		if modules[name] != nil {
			names = append(names, name)
		}
	}
	var out bytes.Buffer
	w := cpio.NewWriter(&out)
	for _, dir := range []string{"bin", "dev", "modules", "proc", "root"} {
		if err := w.WriteHeader(&cpio.Header{Name: dir, Mode: cpio.TypeDir | 0o755}); err != nil {
			return err
		}
	}
	err = errors.Join(
		addFile(w, "bin/busybox", busybox),
		addFile(w, "init", fmt.Appendf(nil, initScript, strings.Join(names, " "))),
	)
	for _, name := range names {
		err = errors.Join(err, addFile(w, "modules/"+name+".ko", modules[name]))
	}
	if err := errors.Join(err, w.Close()); err != nil {
		return err
	}
	return os.WriteFile(path, out.Bytes(), 0o644)
}

func addFile(w *cpio.Writer, name string, data []byte) error {
	if err := w.WriteHeader(&cpio.Header{Name: name, Mode: cpio.TypeReg | 0o755, Size: int64(len(data))}); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

// findModules reads the modules for the initrd that are not built into the
// kernel. A missing module is an error.
func findModules(dir string) (map[string][]byte, error) {
	builtin, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, err
	}
	found := map[string][]byte{}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, _, isModule := strings.Cut(d.Name(), ".ko")
		if isModule && slices.Contains(diskModules, name) {
			found[name], err = readModule(path)
		}
		return err
	})
	for _, name := range diskModules {
		if found[name] == nil && !strings.Contains(string(builtin), "/"+name+".ko\n") {
			err = errors.Join(err, fmt.Errorf("the kernel in %s has no module %s", dir, name))
		}
	}
	return found, err
}

// readModule reads a module, which Debian 13 compresses.
func readModule(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil || filepath.Ext(path) != ".xz" {
		return data, err
	}
	r, err := xz.NewReader(bytes.NewReader(data))
	if err == nil {
		data, err = io.ReadAll(r)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot decompress %s: %w", path, err)
	}
	return data, nil
}
