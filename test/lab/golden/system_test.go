package golden

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"
	"github.com/ulikunitz/xz"
)

const modulesDir = "usr/lib/modules/6.1/"

// newRoot makes a root directory with busybox and these files of the kernel.
func newRoot(t *testing.T, builtin string, modules map[string][]byte) string {
	t.Helper()
	root := t.TempDir()
	files := []File{
		{Path: "bin/busybox", Data: []byte("busybox"), Mode: 0o755},
		{Path: modulesDir + "modules.builtin", Data: []byte(builtin)},
	}
	for name, data := range modules {
		files = append(files, File{Path: modulesDir + "kernel/drivers/" + name, Data: data})
	}
	for _, f := range files {
		if err := writeFile(root, f); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// uncompressed returns modules like those of Debian 12, except one.
func uncompressed(without string) map[string][]byte {
	list := map[string][]byte{}
	for _, name := range append(slices.Clone(diskModules), "floppy") {
		if name != without {
			list[name+".ko"] = []byte("module " + name)
		}
	}
	return list
}

// readInitrd makes an initrd from a root directory and returns its files.
func readInitrd(t *testing.T, root string) map[string]string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "initrd")
	if err := makeInitrd(root, "6.1", path); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	files := map[string]string{}
	for r := cpio.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = string(data)
	}
}

func TestInitrdLoadsDiskModulesInOrder(t *testing.T) {
	files := readInitrd(t, newRoot(t, "", uncompressed("")))
	if files["bin/busybox"] != "busybox" || files["modules/virtio_blk.ko"] != "module virtio_blk" {
		t.Errorf("files in the initrd: %v", files)
	}
	if _, exists := files["modules/floppy.ko"]; exists {
		t.Error("the initrd contains a module that is not in the list")
	}
	if !strings.Contains(files["init"], "for module in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk;") {
		t.Errorf("the init script does not load the modules in order:\n%s", files["init"])
	}
}

func TestInitrdDecompressesModulesAndOmitsBuiltInOnes(t *testing.T) {
	var compressed bytes.Buffer
	w, err := xz.NewWriter(&compressed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("module virtio_blk")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var builtin strings.Builder
	for _, name := range diskModules {
		if name != "virtio_blk" {
			fmt.Fprintf(&builtin, "kernel/drivers/virtio/%s.ko\n", name)
		}
	}
	files := readInitrd(t, newRoot(t, builtin.String(), map[string][]byte{"virtio_blk.ko.xz": compressed.Bytes()}))
	if files["modules/virtio_blk.ko"] != "module virtio_blk" {
		t.Errorf("the initrd does not contain the decompressed module: %v", files)
	}
	if !strings.Contains(files["init"], "for module in virtio_blk;") {
		t.Errorf("the init script does not load exactly virtio_blk:\n%s", files["init"])
	}
}

func TestMakeInitrdFailsIfAModuleIsMissing(t *testing.T) {
	err := makeInitrd(newRoot(t, "", uncompressed("virtio_pci")), "6.1", filepath.Join(t.TempDir(), "initrd"))
	if err == nil || !strings.Contains(err.Error(), "no module virtio_pci") {
		t.Errorf("error is %v, want one that names virtio_pci", err)
	}
}

func TestProfilesOfMissingProgramsAreRemoved(t *testing.T) {
	root := t.TempDir()
	if err := removeProfiles(root); err != nil {
		t.Errorf("without AppArmor: %v", err)
	}
	for _, path := range []string{"usr/sbin/runc", "usr/bin/man", "etc/apparmor.d/abi/4.0", "etc/apparmor.d/chromium", "etc/apparmor.d/runc", "etc/apparmor.d/usr.bin.man", "etc/apparmor.d/usr.bin.tcpdump"} {
		if err := writeFile(root, File{Path: path}); err != nil {
			t.Fatal(err)
		}
	}
	if err := removeProfiles(root); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(root, "etc/apparmor.d/*"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range left {
		left[i] = filepath.Base(left[i])
	}
	if want := []string{"abi", "runc", "usr.bin.man"}; !slices.Equal(left, want) {
		t.Errorf("profiles are %q, want %q", left, want)
	}
}

func TestEnableUnitsCreatesSymbolicLinks(t *testing.T) {
	root := t.TempDir()
	if err := enableUnits(root); err != nil {
		t.Fatal(err)
	}
	target, err := os.Readlink(filepath.Join(root, "etc/systemd/system/multi-user.target.wants/firstboot.service"))
	if err != nil || target != "/usr/lib/systemd/system/firstboot.service" {
		t.Errorf("the link points to %q (%v)", target, err)
	}
}
