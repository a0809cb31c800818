package golden

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"
)

// newRoot makes a root directory with all kernel modules except one.
func newRoot(t *testing.T, without string) string {
	t.Helper()
	root := t.TempDir()
	for _, name := range append(slices.Clone(diskModules), "floppy") {
		if name != without {
			if err := writeFile(root, File{Path: "usr/lib/modules/6.1/kernel/drivers/" + name + ".ko", Data: []byte("module " + name)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := writeFile(root, File{Path: "bin/busybox", Data: []byte("busybox"), Mode: 0o755}); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestInitrdLoadsDiskModulesInOrder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "initrd")
	if err := makeInitrd(newRoot(t, ""), "6.1", path); err != nil {
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
			break
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
	if files["bin/busybox"] != "busybox" || files["modules/virtio_blk.ko"] != "module virtio_blk" {
		t.Errorf("files in the initrd: %v", files)
	}
	if _, exists := files["modules/floppy.ko"]; exists {
		t.Error("the initrd contains a module that is not in the list")
	}
	if !strings.Contains(files["init"], "for module in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk ;") {
		t.Errorf("the init script does not load the modules in order:\n%s", files["init"])
	}
}

func TestMakeInitrdFailsIfAModuleIsMissing(t *testing.T) {
	err := makeInitrd(newRoot(t, "virtio_pci"), "6.1", filepath.Join(t.TempDir(), "initrd"))
	if err == nil || !strings.Contains(err.Error(), "no module virtio_pci") {
		t.Errorf("error is %v, want one that names virtio_pci", err)
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
