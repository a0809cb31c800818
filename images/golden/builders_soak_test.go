//go:build soak && integration

package golden

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/test/boottest"
	"github.com/projecteru2/firstboot/test/lab/cache"
	"github.com/projecteru2/firstboot/test/lab/machine"
	"github.com/projecteru2/firstboot/test/provisiontest"
	"github.com/projecteru2/firstboot/test/rootfs"
)

// requireTool fails the test if an image builder is not installed. test/soak.sh
// installs them.
func requireTool(t *testing.T, name, pkg string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("%s is not installed: test/lab/install-packages.sh %s", name, pkg)
	}
}

// mkosi builds an image with the unmodified recipe (5 minutes).
func TestMkosiRecipe(t *testing.T) {
	requireTool(t, "mkosi", "mkosi")
	dir := recipe(t, "mkosi")
	binary := provisiontest.BuildProgram(t)
	if err := os.Rename(binary, dir+"/firstboot"); err != nil {
		t.Fatal(err)
	}
	path := os.Getenv("PATH")
	if _, err := os.Stat("/run/dbus/system_bus_socket"); err != nil {
		// Without a system bus systemd-nspawn cannot register its containers,
		// and mkosi 14 has no option for that.
		shim := t.TempDir()
		write(t, shim+"/systemd-nspawn", "#!/bin/sh\nexec /usr/bin/systemd-nspawn --register=no --keep-unit \"$@\"\n", 0o755)
		path = shim + ":" + path
	}
	c := exec.CommandContext(t.Context(), "mkosi")
	c.Dir, c.Env = dir, append(os.Environ(), "PATH="+path)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("mkosi: %v\n%s", err, out)
	}
	checkSealed(t, dir+"/image", dir+"/firstboot")
}

// virt-customize bakes a disk image with the unmodified recipe.
func TestVirtCustomizeRecipe(t *testing.T) {
	requireTool(t, "virt-customize", "libguestfs-tools")
	setKernelForLibguestfs(t)
	m := boottest.New(t, []string{"openssh-server"})
	dir := recipe(t, "virt-customize")
	deb, _ := packages(t)
	disk := dir + "/disk.raw"
	command(t, "truncate", "-s", "2G", disk)
	command(t, "mke2fs", "-q", "-t", "ext4", "-d", m.Root, disk)
	command(t, "qemu-img", "convert", "-O", "qcow2", disk, dir+"/disk.qcow2")
	t.Setenv("LIBGUESTFS_BACKEND", "direct") // no libvirt here
	command(t, dir+"/firstboot.sh", dir+"/disk.qcow2", deb, dir+"/my.yaml")
	root := t.TempDir()
	command(t, "virt-copy-out", "-a", dir+"/disk.qcow2", "/etc", "/usr", "/var", root)
	checkSealed(t, root, root+"/usr/bin/firstboot")
}

// setKernelForLibguestfs gives libguestfs a kernel. It also prevents the use of a
// KVM that does not work: libguestfs checks only that /dev/kvm exists.
func setKernelForLibguestfs(t *testing.T) {
	t.Helper()
	root, err := rootfs.Debian(t.Context(), cache.Open(t.Logf), "linux-image-cloud-amd64")
	if err != nil {
		t.Fatal(err)
	}
	kernels, err := filepath.Glob(root + "/boot/vmlinuz-*")
	if err != nil || len(kernels) != 1 {
		t.Fatalf("kernels %v, %v", kernels, err)
	}
	t.Setenv("SUPERMIN_KERNEL", kernels[0])
	t.Setenv("SUPERMIN_MODULES", root+"/lib/modules/"+strings.TrimPrefix(filepath.Base(kernels[0]), "vmlinuz-"))
	if machine.Probe(t.Context(), kernels[0]) != machine.KVM {
		t.Setenv("LIBGUESTFS_BACKEND_SETTINGS", "force_tcg")
	}
}

// checkSealed checks that an image is valid, sealed and enabled.
func checkSealed(t *testing.T, root, binary string) {
	t.Helper()
	command(t, binary, "validate", "--root", root)
	command(t, binary, "seal", "--check", "--root", root)
	if id, err := os.ReadFile(root + "/etc/machine-id"); err != nil || len(id) > 0 {
		t.Errorf("machine-id: %q, %v", id, err)
	}
	if !isEnabled(t, root) {
		t.Error("the units are not enabled")
	}
}
