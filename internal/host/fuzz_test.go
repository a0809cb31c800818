package host

import (
	"strings"
	"testing"
)

// FuzzMounts: each mount has a mount point and a type, and every path is in the
// mount with the longest mount point that contains it.
func FuzzMounts(f *testing.F) {
	for _, s := range []string{
		"22 1 0:21 / / rw,relatime - overlay overlay rw,lowerdir=/a,upperdir=/b\n23 22 0:22 / /b rw - tmpfs tmpfs rw\n",
		"1 1 1:1 / /a\\040b rw shared:1 master:2 - ext4 /dev/vda rw", " - ", "", "a b c d e - f g h", "\xff - \xff",
	} {
		f.Add(s, "/b/c")
	}
	f.Fuzz(func(t *testing.T, text, path string) {
		mounts := parseMounts(text)
		for _, m := range mounts {
			if m.point == "" || m.fsType == "" || strings.ContainsAny(m.point+m.fsType, " \t\n") {
				t.Errorf("%+v", m)
			}
		}
		found := mountOf(mounts, path)
		for _, m := range mounts {
			if strings.HasPrefix(path, strings.TrimSuffix(m.point, "/")+"/") && len(m.point) > len(found.point) {
				t.Errorf("%q is in %+v, not in %+v", path, m, found)
			}
		}
	})
}

// FuzzProcessStat: a program can choose its name, which /proc/PID/stat contains.
func FuzzProcessStat(f *testing.F) {
	for _, s := range []string{"firstboot", ") R 1 (", "a b\n) 9 9", "", "\xff"} {
		f.Add(s)
	}
	const fields = " R 42 5 5 0 -1 4194304 100 0 0 0 1 2 3 4 20 0 5 0 424242 100 200"
	f.Fuzz(func(t *testing.T, name string) {
		if pid, parent, start, ok := parseStat("17 (" + name + ")" + fields); !ok || pid != 17 || parent != 42 || start != "424242" {
			t.Errorf("%q: %d, %d, %q, %v", name, pid, parent, start, ok)
		}
		_, _, _, _ = parseStat(name) // must not panic
	})
}

// FuzzLastLines: what a command printed becomes one short line.
func FuzzLastLines(f *testing.F) {
	f.Add([]byte("a\nb\nc\nd"), []byte("out"))
	f.Add([]byte(""), []byte("\x1b[2J\r\n\xff"))
	f.Fuzz(func(t *testing.T, stderr, stdout []byte) {
		line := lastLines(stderr, stdout)
		if len(line) > 610 || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("%q", line)
		}
	})
}
