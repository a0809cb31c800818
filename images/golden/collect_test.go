package golden

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/secret"
	"github.com/projecteru2/firstboot/stages"
)

func digestOf(data string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(data))) }

// mirror serves texts by their paths and counts its connections.
type mirror struct {
	*httptest.Server
	texts       map[string]string
	connections atomic.Int32
	busy        atomic.Int32 // how many more requests to answer with 503
}

func newMirror(t *testing.T, texts map[string]string) *mirror {
	t.Helper()
	m := &mirror{texts: texts}
	m.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m.busy.Add(-1) >= 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		text, ok := texts[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(text))
	}))
	m.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			m.connections.Add(1)
		}
	}
	m.Start()
	t.Cleanup(m.Close)
	return m
}

// collector returns a collector that fetches into dir and prints its progress to
// output.
func collector(c *config.Config, dir string, output *bytes.Buffer) *Collector {
	log := func(line string) { fmt.Fprintln(output, line) }
	return &Collector{
		Config: c, Artifacts: Artifacts(c, (&stages.Env{Config: c}).References()), Progress: log,
		KeyPath:          func(path string) string { return path },
		CalicoctlVersion: func(context.Context, string) (string, error) { return "v3.23.0", nil },
		Store:            artifact.NewStore(artifact.Options{Cache: DownloadDir(dir), Bundles: []string{dir}, Log: log}),
	}
}

// pinned returns a configuration that pins all three artifacts, served by m.
func pinned(m *mirror) *config.Config {
	c := config.Default()
	c.Calicoctl.URL, c.Calicoctl.SHA256 = secret.URL(m.URL+"/calicoctl?token=correct-horse"), digestOf(m.texts["/calicoctl"])
	c.Node.URL, c.Node.SHA256 = secret.URL(m.URL+"/node.tar"), digestOf(m.texts["/node.tar"])
	c.Minions.URL, c.Minions.SHA256 = secret.URL(m.URL+"/minions.rpm"), digestOf(m.texts["/minions.rpm"])
	return c
}

func TestBundleContainsEveryArtifact(t *testing.T) {
	m := newMirror(t, valid(t))
	var output bytes.Buffer
	dir := filepath.Join(t.TempDir(), "bundle")
	got, err := collector(pinned(m), dir, &output).Collect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Pack(t.Context(), dir, got.Items); err != nil {
		t.Fatal(err)
	}
	b, err := artifact.OpenBundle(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	want := []artifact.Entry{
		{Name: "calicoctl", Version: "v3.23.0", SHA256: digestOf(m.texts["/calicoctl"]), Size: int64(len(m.texts["/calicoctl"])), Source: m.URL + "/calicoctl?***"},
		{Name: "node-image", Version: "v3.23.0", SHA256: digestOf(m.texts["/node.tar"]), Size: int64(len(m.texts["/node.tar"])), Source: m.URL + "/node.tar"},
		{Name: "eru-minions", Version: "0.1.0-1", SHA256: digestOf(m.texts["/minions.rpm"]), Size: int64(len(m.texts["/minions.rpm"])), Source: m.URL + "/minions.rpm"},
	}
	if len(b.Entries) != len(want) {
		t.Fatalf("%d entries: %v", len(b.Entries), b.Entries)
	}
	for i, e := range b.Entries {
		if e != want[i] {
			t.Errorf("entry %+v, want %+v", e, want[i])
		}
	}
	if _, err := os.Stat(DownloadDir(dir)); err == nil {
		t.Error("the downloads were not removed")
	}
	if strings.Contains(output.String(), "correct-horse") {
		t.Errorf("a token was shown: %s", output.String())
	}
}

// The stages of a host get these references from the store. With the bundle in the
// image they need no connection.
func TestHostWithBundleOpensNoConnection(t *testing.T) {
	m := newMirror(t, valid(t))
	c, dir := pinned(m), filepath.Join(t.TempDir(), "bundle")
	got, err := collector(c, dir, new(bytes.Buffer)).Collect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Pack(t.Context(), dir, got.Items); err != nil {
		t.Fatal(err)
	}
	get := func(bundles ...string) {
		t.Helper()
		store := artifact.NewStore(artifact.Options{Cache: t.TempDir(), Bundles: bundles})
		for _, ref := range (&stages.Env{Config: c}).References() {
			if _, err := store.Get(t.Context(), ref, nil); err != nil {
				t.Error(err)
			}
		}
	}
	before := m.connections.Load()
	get(dir)
	if n := m.connections.Load() - before; n != 0 {
		t.Errorf("%d connections with a bundle", n)
	}
	get() // shows that the counter works
	if n := m.connections.Load() - before; n == 0 {
		t.Error("no connection without a bundle")
	}
}

func TestCollectRetriesIfTheServerIsBusy(t *testing.T) {
	m := newMirror(t, valid(t))
	m.busy.Store(1)
	c := config.Default()
	c.Calicoctl.URL, c.Calicoctl.SHA256 = secret.URL(m.URL+"/calicoctl"), digestOf(m.texts["/calicoctl"])
	var output bytes.Buffer
	if _, err := collector(c, t.TempDir(), &output).Collect(t.Context()); err != nil {
		t.Error(err)
	}
	if !strings.Contains(output.String(), "the server answered 503 Service Unavailable; next attempt in") {
		t.Errorf("output %q", output.String())
	}
}

func TestCollectReportsAllFailures(t *testing.T) {
	m := newMirror(t, map[string]string{"/calicoctl": "an error page"})
	var output bytes.Buffer
	c := pinned(m)
	c.Calicoctl.SHA256, c.Node.SHA256, c.Minions.SHA256 = digestOf("one"), digestOf("two"), digestOf("three")
	_, err := collector(c, t.TempDir(), &output).Collect(t.Context())
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"cannot use calicoctl from", "cannot fetch node-image from " + m.URL + "/node.tar: the server answered 404", "cannot fetch eru-minions"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %v", want, err)
		}
	}
}

func TestCollectStopsWithItsContext(t *testing.T) {
	m := newMirror(t, nil)
	m.busy.Store(1 << 20)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(context.Canceled)
	dir, err := os.MkdirTemp("", "firstboot-test") // a fetch that is being cancelled may still write to it
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if _, err := collector(pinned(m), dir, new(bytes.Buffer)).Collect(ctx); err == nil {
		t.Error("no error")
	}
}

// Without a digest a file fetched earlier may be outdated.
func TestUnpinnedArtifactIsFetchedAgain(t *testing.T) {
	texts := map[string]string{}
	m := newMirror(t, texts)
	c, dir := config.Default(), t.TempDir()
	c.Calicoctl.URL = secret.URL(m.URL + "/calicoctl")
	for _, text := range []string{executable(t, runtime.GOARCH), executable(t, runtime.GOARCH) + "new"} {
		texts["/calicoctl"] = text
		got, err := collector(c, dir, new(bytes.Buffer)).Collect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(got.Items[0].Path)
		if err != nil || string(data) != text {
			t.Errorf("got %q, %v; want the server's %q", data, err, text)
		}
		if len(got.Warnings) == 0 || !strings.Contains(strings.Join(got.Warnings, "\n"), "hosts fetch calicoctl from its URL") {
			t.Errorf("no warning that hosts need a digest: %v", got.Warnings)
		}
	}
}

func TestProgressIsPrintedEveryFewSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines []string
		p := newProgress(func(line string) { lines = append(lines, line) })
		for i := range 40 { // a fetch of ten seconds, reported four times a second
			p.update("node-image", int64(i+1)*1e6, 40e6)
			time.Sleep(250 * time.Millisecond)
		}
		want := []string{"node-image: 13 MB of 40 MB (32 %)", "node-image: 25 MB of 40 MB (62 %)", "node-image: 37 MB of 40 MB (92 %)"}
		if !slices.Equal(lines, want) {
			t.Errorf("printed %q, want %q", lines, want)
		}
	})
}

func TestImageTag(t *testing.T) {
	for name, want := range map[string]string{
		"calico/node:v3.23.0": "v3.23.0", "registry:5000/calico/node": "", "registry:5000/calico/node:v1": "v1",
		"calico/node@sha256:" + digestOf(""): digestOf(""),
	} {
		if got := imageTag(name); got != want {
			t.Errorf("imageTag(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestUnsignedPackageIsRefused(t *testing.T) {
	m := newMirror(t, valid(t))
	c := pinned(m)
	c.Minions.SignedBy = filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(c.Minions.SignedBy, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := collector(c, t.TempDir(), new(bytes.Buffer)).Collect(t.Context())
	if err == nil || !strings.Contains(err.Error(), c.Minions.SignedBy) {
		t.Errorf("accepted, or the error does not name the key: %v", err)
	}
}
