package host_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/internal/host"
)

// snapshot returns the names, types and contents below dir.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		text := info.Mode().String()
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += " " + string(data)
		}
		all[strings.TrimPrefix(path, dir)] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestNoMethodLeavesTheRoot calls every method that takes a path with paths whose
// parts are symbolic links to a directory or file outside the root. Whatever a
// method returns, nothing outside is changed or read.
func TestNoMethodLeavesTheRoot(t *testing.T) {
	for name, target := range map[string]func(outside string) string{
		"absolute": func(outside string) string { return outside },
		"relative": func(outside string) string { return "../../../../../../../../../../../.." + outside },
		"magic":    func(string) string { return "/proc/self/cwd" },
	} {
		t.Run(name, func(t *testing.T) {
			outside := t.TempDir()
			if err := os.MkdirAll(filepath.Join(outside, "dir", "sub"), 0o755); err != nil {
				t.Fatal(err)
			}
			for _, file := range []string{"dir/file", "dir/sub/file"} {
				if err := os.WriteFile(filepath.Join(outside, file), []byte("of the build machine"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			before := snapshot(t, outside)
			t.Chdir(filepath.Join(outside, "dir"))
			for method, call := range methods() {
				root := t.TempDir()
				if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
					t.Fatal(err)
				}
				for link, to := range map[string]string{"etc/d": "/dir", "etc/f": "/dir/file"} {
					if err := os.Symlink(target(filepath.Join(outside, to)), filepath.Join(root, link)); err != nil {
						t.Fatal(err)
					}
				}
				h := host.New(root)
				for _, path := range []string{"/etc/d/file", "/etc/d/sub", "/etc/d/sub/file", "/etc/d/new", "/etc/f", "/etc/d", "/etc/d/../d/file"} {
					if read := call(h, path); strings.Contains(read, "of the build machine") || strings.Contains(read, "sub") {
						t.Errorf("%s(%s) read %q outside the root", method, path, read)
					}
				}
				if d := cmp.Diff(before, snapshot(t, outside)); d != "" {
					t.Errorf("%s changed the directory outside: %s", method, d)
					return
				}
			}
		})
	}
}

// methods are all methods of Host that take a path. They return what was read.
func methods() map[string]func(h *host.Host, path string) string {
	digest := "f6d0c6f2" // never printed for a file outside: it cannot be opened
	return map[string]func(h *host.Host, path string) string{
		"ReadFile":  func(h *host.Host, p string) string { data, _ := h.ReadFile(p); return string(data) },
		"ReadDir":   func(h *host.Host, p string) string { names, _ := h.ReadDir(p); return strings.Join(names, " ") },
		"Open":      func(h *host.Host, p string) string { f, err := h.Open(p); return opened(f, err) },
		"WriteFile": func(h *host.Host, p string) string { _ = h.WriteFile(p, []byte("new"), 0o600); return "" },
		"Overwrite": func(h *host.Host, p string) string { _ = h.Overwrite(p, []byte("new")); return "" },
		"InstallFile": func(h *host.Host, p string) string {
			_ = h.InstallFile("/proc/self/stat", p, 0o600)
			_ = h.InstallFile("/etc/hostname", p, 0o600)
			return ""
		},
		"InstallProgram": func(h *host.Host, p string) string {
			_ = h.InstallProgram(host.Program{Source: "/etc/hostname", Path: p}, func(string) error { return nil })
			return ""
		},
		"MkdirAll":   func(h *host.Host, p string) string { _ = h.MkdirAll(p + "/more"); return "" },
		"Remove":     func(h *host.Host, p string) string { _ = h.Remove(p); return "" },
		"RemoveAll":  func(h *host.Host, p string) string { _ = h.RemoveAll(p); return "" },
		"RenameFrom": func(h *host.Host, p string) string { _ = h.Rename(p, "/etc/moved"); return "" },
		"RenameTo": func(h *host.Host, p string) string {
			_ = h.WriteFile("/etc/own", []byte("own"), 0o600)
			_ = h.Rename("/etc/own", p)
			return ""
		},
		"Symlink":  func(h *host.Host, p string) string { _ = h.Symlink("/x", p); return "" },
		"Readlink": func(h *host.Host, p string) string { return "" + strings.Trim(h.Readlink(p+"/sub"), "/") },
		"SHA256": func(h *host.Host, p string) string {
			if got, err := h.SHA256(p); err == nil && p != "/etc/f" {
				return got + digest + " of the build machine"
			}
			return ""
		},
		"Stat": func(h *host.Host, p string) string {
			if info, err := h.Stat(p); err == nil && info.Size() == int64(len("of the build machine")) {
				return "of the build machine"
			}
			return ""
		},
		"Exists": func(h *host.Host, p string) string {
			if strings.HasPrefix(p, "/etc/d/") && h.Exists(p) && !strings.HasSuffix(p, "..") {
				return "of the build machine"
			}
			return ""
		},
		"SetSysctl": func(h *host.Host, p string) string { _ = h.SetSysctl("../../"+p, "new"); return "" },
		"RealPath": func(h *host.Host, p string) string {
			data, _ := os.ReadFile(h.RealPath(p))
			return string(data)
		},
		"FreeSpace": func(h *host.Host, p string) string { _, _ = h.FreeSpace(p); return "" },
	}
}

func opened(f *os.File, err error) string {
	if err != nil {
		return ""
	}
	defer f.Close()
	return "of the build machine: it was opened"
}
