package host

import "testing"

func TestRootInMemory(t *testing.T) {
	disk := "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n23 22 0:5 / /run rw shared:2 - tmpfs tmpfs rw\n"
	for name, c := range map[string]struct {
		mounts string
		want   bool
	}{
		"disk":                         {disk, false},
		"empty mountinfo":              {"", false},
		"tmpfs":                        {"1 1 0:1 / / rw - tmpfs tmpfs rw\n", true},
		"disk mounted over initramfs":  {"1 1 0:1 / / rw - rootfs rootfs rw\n" + disk, false},
		"overlay, upper in memory":     {"1 1 0:1 / / rw - overlay overlay rw,lowerdir=/run/live/rootfs/filesystem.squashfs,upperdir=/run/live/overlay/rw,workdir=/w\n2 1 0:2 / /run rw - tmpfs tmpfs rw\n3 2 0:3 / /run/live/overlay rw - tmpfs tmpfs rw\n", true},
		"overlay, upper on disk":       {"1 1 0:1 / / rw - overlay overlay rw,lowerdir=/l,upperdir=/run/live/persistence/sda1/rw,workdir=/w\n2 1 0:2 / /run rw - tmpfs tmpfs rw\n3 2 8:1 / /run/live/persistence/sda1 rw - ext4 /dev/sda1 rw\n", false},
		"overlay, no upper directory":  {"1 1 0:1 / / ro - overlay overlay ro,lowerdir=/a:/b\n", true},
		"mount point is a name prefix": {"1 1 0:1 / / rw - overlay overlay rw,upperdir=/runner/rw\n2 1 0:2 / /run rw - tmpfs tmpfs rw\n3 1 8:1 / /runner rw - ext4 /dev/sda1 rw\n", false},
		"truncated lines":              {"1 1 0:1\n1 1 0:1 / / rw - tmpfs\n - \n", false},
	} {
		h := New(t.TempDir())
		if err := h.WriteFile("/proc/self/mountinfo", []byte(c.mounts), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := h.RootInMemory(); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
