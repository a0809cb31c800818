package main

import (
	"bytes"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/internal/minions"
	"github.com/projecteru2/firstboot/units"
)

// serve runs a plugin that answers on a socket below root.
func serve(t *testing.T, root, socket, answer string) {
	t.Helper()
	path := filepath.Join(root, socket)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/Plugin.Activate" || answer == "" {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = w.Write([]byte(answer))
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
}

func waitForPlugin(root, limit string) (code int, out string) {
	var b bytes.Buffer
	code = execute([]string{"wait-plugin", "--root", root, "--for", limit}, &b, &b)
	return code, b.String()
}

func TestWaitPluginEndsWhenBothSocketsAnswer(t *testing.T) {
	root := t.TempDir()
	for _, s := range minions.Sockets(false) {
		serve(t, root, s.Path, `{"Implements": ["NetworkDriver"]}`)
	}
	if code, out := waitForPlugin(root, "1m"); code != 0 || !strings.Contains(out, "the network plugin answers") {
		t.Errorf("exit code %d: %s", code, out)
	}
}

// TestWaitPluginWaitsForAnEnabledAdapter, but not for one that no run has enabled.
func TestWaitPluginWaitsForAnEnabledAdapter(t *testing.T) {
	root := t.TempDir()
	for _, s := range minions.Sockets(true) {
		serve(t, root, s.Path, `{"Implements": ["NetworkDriver"]}`)
	}
	for _, f := range units.LocalDropIns() {
		put(t, filepath.Join(root, f.Path), string(f.Data))
	}
	if code, out := waitForPlugin(root, "1m"); code != 0 || !strings.Contains(out, "the network plugin answers") {
		t.Errorf("without the adapter: exit code %d: %s", code, out)
	}
	put(t, filepath.Join(root, units.AdapterEnabledPath), "")
	if code, out := waitForPlugin(root, "1s"); code != 1 || !strings.Contains(out, "the adapter does not answer") {
		t.Errorf("with an enabled adapter: exit code %d: %s", code, out)
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestWaitPluginReportsTheSocketThatFails(t *testing.T) {
	root := t.TempDir()
	serve(t, root, minions.Sockets(false)[0].Path, `{"Implements": ["NetworkDriver"]}`)
	serve(t, root, minions.Sockets(false)[1].Path, "")
	code, out := waitForPlugin(root, "1s")
	if code != 1 || !strings.Contains(out, "calico-ipam.sock: the plugin answered with status 500") || strings.Contains(out, "calico.sock:") {
		t.Errorf("exit code %d: %s", code, out)
	}
}
