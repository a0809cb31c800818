package calico

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/host"
)

// TestQueryBIRD has replies of BIRD 1.6.8.
func TestQueryBIRD(t *testing.T) {
	const greeting = "0001 BIRD 1.6.8 ready.\n"
	for what, c := range map[string]struct{ reply, want string }{
		"status": {
			greeting + "1000-BIRD 1.6.8\n1011-Router ID is 10.0.0.2\n Current server time is 2026-11-26 02:42:41\n0013 Daemon is up and running\n",
			"BIRD 1.6.8\nRouter ID is 10.0.0.2\nCurrent server time is 2026-11-26 02:42:41\nDaemon is up and running\n",
		},
		"protocols": {
			greeting + "2002-name     proto    table    state  since       info\n1002-device1  Device   master   up     02:42:37    \n Mesh_10_0_0_3 BGP      master   start  02:42:37    Passive       \n0000 \n",
			"name     proto    table    state  since       info\ndevice1  Device   master   up     02:42:37    \nMesh_10_0_0_3 BGP      master   start  02:42:37    Passive\n\n",
		},
		"an error":       {greeting + "9001 syntax error\n", "bird: syntax error"},
		"a broken reply": {greeting + "1000-BIRD 1.6.8\n", "closed the connection"},
		"nothing":        {"", "closed the connection"},
	} {
		got, err := queryBIRD(t.Context(), hostWithBIRD(t, c.reply), "show something")
		if err != nil {
			if got != "" || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %q, %v", what, got, err)
			}
			continue
		}
		if got != c.want {
			t.Errorf("%s: %q", what, got)
		}
	}
}

// TestQueryOfASilentBIRDEnds with its context, and at once without a BIRD.
func TestQueryOfASilentBIRDEnds(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := queryBIRD(ctx, hostWithBIRD(t, "silent"), "show status"); err == nil {
		t.Error("no error")
	}
	if _, err := queryBIRD(t.Context(), host.New(t.TempDir()), "show status"); err == nil || !strings.Contains(err.Error(), "does not respond") {
		t.Errorf("without a socket: %v", err)
	}
}

// hostWithBIRD returns a host whose BIRD sends the reply to a command and ends the
// connection, or never answers.
func hostWithBIRD(t *testing.T, reply string) *host.Host {
	t.Helper()
	root, err := os.MkdirTemp("", "fb") // the path of a socket is limited
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	path := filepath.Join(root, birdSocket)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = conn.Read(make([]byte, 100))
		if reply == "silent" {
			<-t.Context().Done()
		}
		_, _ = conn.Write([]byte(reply))
		_ = conn.Close()
	}()
	return host.New(root)
}
