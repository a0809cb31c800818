//go:build integration

package pxe

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/secret"
	"github.com/projecteru2/firstboot/test/provisiontest"
)

// recorder is a web server that records the requested paths. It answers the first
// request of a path in fails with that status.
type recorder struct {
	mu    sync.Mutex
	paths []string
	fails map[string]int
	files http.Handler
}

func (s *recorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.paths = append(s.paths, r.URL.Path)
	status := s.fails[r.URL.Path]
	delete(s.fails, r.URL.Path)
	s.mu.Unlock()
	if status != 0 {
		w.WriteHeader(status)
		return
	}
	s.files.ServeHTTP(w, r)
}

// requested returns the requested paths, one per line.
func (s *recorder) requested() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.paths, "\n")
}

// A machine boots from the directory with the iPXE of QEMU's network card. There is
// no real kernel: the test checks which files iPXE requests. If a request for the
// host's script fails, iPXE must repeat it. With the default script it would become
// another host or overwrite its disk.
func TestRealIPXE(t *testing.T) {
	const byMAC, noUUID = "/hosts/" + macID + ".ipxe", "00000000-0000-4000-8000-000000000001"
	const byUUID = "/hosts/firstboot-uuid-3f0c7a1e-0000-4000-8000-1234567890ab.ipxe"
	for name, c := range map[string]struct {
		mac, uuid, want string
		fails           int // the status of the first answer to want
	}{
		"by MAC":                   {"52:54:00:ab:34:56", noUUID, byMAC, 0},
		"by UUID":                  {"52:54:00:00:00:02", "3f0c7a1e-0000-4000-8000-1234567890ab", byUUID, 0},
		"not listed":               {"52:54:00:00:00:03", noUUID, "/hosts/firstboot-default.ipxe", 0},
		"by MAC, server busy":      {"52:54:00:ab:34:56", noUUID, byMAC, http.StatusServiceUnavailable},
		"by UUID, script missing":  {"52:54:00:00:00:02", "3f0c7a1e-0000-4000-8000-1234567890ab", byUUID, http.StatusNotFound},
		"not listed, server fails": {"52:54:00:00:00:03", noUUID, "/hosts/firstboot-default.ipxe", http.StatusInternalServerError},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			server := &recorder{files: http.FileServer(http.Dir(dir)), fails: map[string]int{}}
			want := "/boot.ipxe\n" + c.want
			if c.fails != 0 {
				server.fails[c.want] = c.fails
				want += "\n" + want // the list of hosts may have changed
			}
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			web := &http.Server{Handler: server, ReadHeaderTimeout: time.Minute}
			go func() { _ = web.Serve(listener) }()
			t.Cleanup(func() { _ = web.Close() })

			// On QEMU's user network 10.0.2.2 is the loopback address of this
			// machine.
			url := fmt.Sprintf("http://10.0.2.2:%d", listener.Addr().(*net.TCPAddr).Port)
			o := options(t)
			o.URL, o.Initrd = secret.URL(url), []string{"initrd.img"}
			files, err := Render(t.Context(), provisiontest.Load(t, provisiontest.Minimal), o)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Write(dir, files); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"vmlinuz", "initrd.img"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte("no kernel"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var console bytes.Buffer
			qemu := exec.CommandContext(t.Context(), "qemu-system-x86_64", "-accel", "tcg", "-m", "256", "-display", "none", "-serial", "stdio", "-no-reboot",
				"-netdev", "user,id=n,bootfile="+url+"/boot.ipxe", "-device", "virtio-net-pci,netdev=n,mac="+c.mac, "-uuid", c.uuid, "-boot", "n")
			qemu.Stdout, qemu.Stderr = &console, &console
			if err := qemu.Start(); err != nil {
				t.Fatal(err)
			}
			deadline := time.Now().Add(180 * time.Second)
			for strings.Count(server.requested(), "/vmlinuz") < 1 && time.Now().Before(deadline) {
				time.Sleep(200 * time.Millisecond)
			}
			_ = qemu.Process.Kill()
			_ = qemu.Wait()
			paths := server.requested()
			if paths != want+"\n/vmlinuz" && paths != want+"\n/vmlinuz\n/initrd.img" {
				t.Errorf("iPXE requested\n%s\nwant %s, then the kernel\n%s", paths, want, console.String())
			}
		})
	}
}

// A full disk leaves no temporary files.
func TestFullDiskLeavesNoTemporaryFiles(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skip("mounting a small file system: ", err)
	}
	defer func() { _ = syscall.Unmount(dir, 0) }()
	big := []byte(strings.Repeat("x", 24<<10))
	_, err := Write(dir, []File{{Path: "a", Data: big}, {Path: "b", Data: big}, {Path: "c", Data: big}})
	entries, readErr := os.ReadDir(dir)
	if !errors.Is(err, syscall.ENOSPC) || readErr != nil || len(entries) > 0 {
		t.Errorf("%v; left: %v, %v", err, entries, readErr)
	}
}
