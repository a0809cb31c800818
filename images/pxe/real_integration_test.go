//go:build integration

package pxe

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/test/provisiontest"
)

// served is a web server that remembers what it was asked for, and answers the
// first request of a path with another status than 200.
type served struct {
	mu    sync.Mutex
	asked []string
	fails map[string]int
	files http.Handler
}

func (s *served) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked = append(s.asked, r.URL.Path)
	status := s.fails[r.URL.Path]
	delete(s.fails, r.URL.Path)
	s.mu.Unlock()
	if status != 0 {
		w.WriteHeader(status)
		return
	}
	s.files.ServeHTTP(w, r)
}

func (s *served) all() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.asked, "\n")
}

// TestRealIPXE boots a machine from the folder with the iPXE of QEMU's NIC. A
// kernel is not there: what iPXE asks for, and that it stays with its host's
// script when that fails, is what is looked at: one that fell through to the
// default script would become another host, or lose its disk.
func TestRealIPXE(t *testing.T) {
	const byMAC, noUUID = "/hosts/" + macID + ".ipxe", "00000000-0000-4000-8000-000000000001"
	const byUUID = "/hosts/firstboot-uuid-3f0c7a1e-0000-4000-8000-1234567890ab.ipxe"
	for name, c := range map[string]struct {
		mac, uuid, want string
		fails           int // the status of the first answer to want
	}{
		"by MAC":                  {"52:54:00:ab:34:56", noUUID, byMAC, 0},
		"by UUID":                 {"52:54:00:00:00:02", "3f0c7a1e-0000-4000-8000-1234567890ab", byUUID, 0},
		"all other":               {"52:54:00:00:00:03", noUUID, "/hosts/firstboot-default.ipxe", 0},
		"by MAC, server busy":     {"52:54:00:ab:34:56", noUUID, byMAC, http.StatusServiceUnavailable},
		"by UUID, not there yet":  {"52:54:00:00:00:02", "3f0c7a1e-0000-4000-8000-1234567890ab", byUUID, http.StatusNotFound},
		"all other, server fails": {"52:54:00:00:00:03", noUUID, "/hosts/firstboot-default.ipxe", http.StatusInternalServerError},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			server := &served{files: http.FileServer(http.Dir(dir)), fails: map[string]int{}}
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

			// 10.0.2.2 is this machine's loopback for a machine on QEMU's
			// user network.
			url := fmt.Sprintf("http://10.0.2.2:%d", listener.Addr().(*net.TCPAddr).Port)
			o := options(t)
			o.URL, o.Initrd = config.URL(url), []string{"initrd.img"}
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
			for strings.Count(server.all(), "/vmlinuz") < 1 && time.Now().Before(deadline) {
				time.Sleep(200 * time.Millisecond)
			}
			_ = qemu.Process.Kill()
			_ = qemu.Wait()
			asked := server.all()
			if asked != want+"\n/vmlinuz" && asked != want+"\n/vmlinuz\n/initrd.img" {
				t.Errorf("it asked for\n%s\nwant %s, then its kernel\n%s", asked, want, console.String())
			}
		})
	}
}
