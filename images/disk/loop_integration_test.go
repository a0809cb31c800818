//go:build integration

package disk

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
)

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// loop returns a loop device of size MiB.
func loop(t *testing.T, size int64) string {
	t.Helper()
	path := blankDisk(t, size<<20, nil)
	device := run(t, "losetup", "--find", "--show", "--partscan", path)
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil {
			t.Errorf("losetup: %v\n%s", err, out)
		}
	})
	return device
}

// system returns the path of a raw image whose root file system contains firstboot.
// With table it is in the second partition of a GPT.
func system(t *testing.T, table bool) string {
	t.Helper()
	dir := t.TempDir()
	root, part, raw := filepath.Join(dir, "root"), filepath.Join(dir, "part"), filepath.Join(dir, "raw")
	for _, name := range []string{"usr/bin/firstboot", "etc/os-release"} {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(name), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "mkfs.ext4", "-q", "-d", root, part, "16M")
	if !table {
		return part
	}
	if err := errors.Join(os.WriteFile(raw, nil, 0o600), os.Truncate(raw, 24<<20)); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), "sfdisk", "--quiet", raw)
	c.Stdin = strings.NewReader("label: gpt\nstart=2048, size=4096\nstart=8192, size=32768\n")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v\n%s", err, out)
	}
	run(t, "dd", "if="+part, "of="+raw, "bs=512", "seek=8192", "conv=notrunc", "status=none")
	return raw
}

func TestInstallAndConfigureOnALoopDevice(t *testing.T) {
	t.Run("file system", func(t *testing.T) { installOn(t, false) })
	t.Run("partitions", func(t *testing.T) { installOn(t, true) })
}

func installOn(t *testing.T, table bool) {
	raw := system(t, table)
	device := loop(t, 64)
	root := device
	o := options(raw, content(t, raw), device)
	h := host.New("/")
	if _, err := Write(t.Context(), h, o); err != nil {
		t.Fatal(err)
	}
	if table {
		if root = device + "p2"; !supportsPartitions(t) {
			t.Skip("this kernel does not support partitions")
		}
		if _, err := os.Stat(root); err != nil {
			t.Errorf("the kernel did not read the partition table: %v", err)
		}
	}
	if got := InstalledImage(t.Context(), h, device); got != "" {
		t.Errorf("a system without configuration has the image digest %s", got)
	}
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte("etcd: {endpoints: [\"http://10.0.0.1:2379\"]}\npool: {cidr: 10.213.0.0/16}\nhost: {name: web-1}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := config.Load(t.Context(), config.Options{Files: []string{path}})
	if err != nil {
		t.Fatal(err)
	}
	if err := Configure(t.Context(), h, device, loaded, o.Image.SHA256); err != nil {
		t.Fatal(err)
	}
	if got := InstalledImage(t.Context(), h, device); got != o.Image.SHA256 {
		t.Errorf("image digest %q, want %s", got, o.Image.SHA256)
	}
	dir := t.TempDir()
	run(t, "mount", "-o", "ro", root, dir)
	defer run(t, "umount", dir)
	if got := string(content(t, filepath.Join(dir, config.MainFile))); got != string(loaded.Explicit()) {
		t.Errorf("the configuration on the disk is %s", got)
	}
	if got := string(content(t, filepath.Join(dir, "etc/hostname"))); got != "web-1\n" {
		t.Errorf("the host name on the disk is %s", got)
	}

	// The disk is mounted: --wipe does not overwrite it.
	o.Wipe = true
	_, err = Write(t.Context(), h, o)
	var refusal *engine.Refusal
	if !errors.As(err, &refusal) || refusal.Findings[0].Name != "disk-in-use" || !strings.Contains(refusal.Findings[0].Actual, dir) {
		t.Errorf("a mounted disk: %v", err)
	}
}

// supportsPartitions reports whether the kernel supports partition tables.
func supportsPartitions(t *testing.T) bool {
	t.Helper()
	path := blankDisk(t, 8<<20, nil)
	run(t, "sh", "-c", "printf 'label: dos\\nstart=2048, size=2048\\n' | sfdisk --quiet "+path)
	device := run(t, "losetup", "--find", "--show", "--partscan", path)
	defer run(t, "losetup", "--detach", device)
	_, err := os.Stat("/sys/class/block/" + filepath.Base(device) + "/" + filepath.Base(device) + "p1")
	return err == nil
}

func TestRefusalNamesTheSignature(t *testing.T) {
	raw := image(t)
	for name, make := range map[string]func(device string){
		"PTTYPE=gpt":  func(d string) { run(t, "sh", "-c", "echo label: gpt | sfdisk --quiet "+d) },
		"PTTYPE=dos":  func(d string) { run(t, "sh", "-c", "echo label: dos | sfdisk --quiet "+d) },
		"TYPE=ext4":   func(d string) { run(t, "mkfs.ext4", "-q", d) },
		"TYPE=swap":   func(d string) { run(t, "mkswap", "--quiet", d) },
		"LABEL=store": func(d string) { run(t, "mkfs.ext4", "-q", "-L", "store", d) },
	} {
		device := loop(t, 32)
		make(device)
		_, err := write(t, options("/nothing", raw, device))
		var refusal *engine.Refusal
		if !errors.As(err, &refusal) || !strings.Contains(refusal.Findings[0].Actual, name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
