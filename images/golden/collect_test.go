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
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/stages"
)

func sumOf(data string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(data))) }

// mirror serves texts by their paths, and counts the connections that it got.
type mirror struct {
	*httptest.Server
	connections atomic.Int32
	busy        atomic.Int32 // how many requests are still to be answered 503
}

func newMirror(t *testing.T, texts map[string]string) *mirror {
	t.Helper()
	m := &mirror{}
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

// collector is one for a configuration, into dir; what it says goes to said.
func collector(c *config.Config, dir string, said *bytes.Buffer) *Collector {
	say := func(line string) { fmt.Fprintln(said, line) }
	return &Collector{
		Config: c, Artifacts: Artifacts(c, (&stages.Env{Config: c}).References()), Progress: say,
		KeyPath: func(path string) string { return path },
		Store:   artifact.NewStore(artifact.Options{Cache: DownloadDir(dir), Bundles: []string{dir}, Log: say}),
	}
}

// pinned is a configuration of all three artifacts, served by m.
func pinned(m *mirror) *config.Config {
	c := config.Default()
	c.Calicoctl.URL, c.Calicoctl.SHA256 = config.URL(m.URL+"/calicoctl?token=correct-horse"), sumOf("one")
	c.Node.URL, c.Node.SHA256 = config.URL(m.URL+"/node.tar"), sumOf("two")
	c.Minions.URL, c.Minions.SHA256 = config.URL(m.URL+"/minions.rpm"), sumOf("three")
	return c
}

func threeArtifacts() map[string]string {
	return map[string]string{"/calicoctl": "one", "/node.tar": "two", "/minions.rpm": "three"}
}

func TestABundleHoldsEveryArtifact(t *testing.T) {
	m := newMirror(t, threeArtifacts())
	var said bytes.Buffer
	dir := filepath.Join(t.TempDir(), "bundle")
	got, err := collector(pinned(m), dir, &said).Collect(t.Context())
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
		{Name: "calicoctl", Version: "v3.23.0", SHA256: sumOf("one"), Size: 3, Source: m.URL + "/calicoctl?***"},
		{Name: "node-image", Version: "v3.23.0", SHA256: sumOf("two"), Size: 3, Source: m.URL + "/node.tar"},
		{Name: "eru-minions", SHA256: sumOf("three"), Size: 5, Source: m.URL + "/minions.rpm"},
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
		t.Error("what was fetched is there twice")
	}
	if strings.Contains(said.String(), "correct-horse") {
		t.Errorf("a token was shown: %s", said.String())
	}
}

// A host's stages ask the store for these references; with the bundle in the
// image no connection may be opened for any of them.
func TestAHostWithTheBundleOpensNoConnection(t *testing.T) {
	m := newMirror(t, threeArtifacts())
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
	get() // the counter counts
	if n := m.connections.Load() - before; n == 0 {
		t.Error("no connection without a bundle")
	}
}

func TestCollectAnswersABusyServerAgain(t *testing.T) {
	m := newMirror(t, threeArtifacts())
	m.busy.Store(1)
	c := config.Default()
	c.Calicoctl.URL, c.Calicoctl.SHA256 = config.URL(m.URL+"/calicoctl"), sumOf("one")
	var said bytes.Buffer
	if _, err := collector(c, t.TempDir(), &said).Collect(t.Context()); err != nil {
		t.Error(err)
	}
	if !strings.Contains(said.String(), "the server answered 503 Service Unavailable; again in") {
		t.Errorf("said %q", said.String())
	}
}

func TestCollectReportsEverythingThatCannotBeHad(t *testing.T) {
	m := newMirror(t, map[string]string{"/calicoctl": "an error page"})
	var said bytes.Buffer
	_, err := collector(pinned(m), t.TempDir(), &said).Collect(t.Context())
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"cannot use calicoctl from", "cannot fetch node-image from " + m.URL + "/node.tar: the server answered 404", "cannot fetch eru-minions"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %v", want, err)
		}
	}
}

func TestCollectEndsWithItsContext(t *testing.T) {
	m := newMirror(t, nil)
	m.busy.Store(1 << 20)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(context.Canceled)
	dir, err := os.MkdirTemp("", "firstboot-test") // a fetch that ends may still write there
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if _, err := collector(pinned(m), dir, new(bytes.Buffer)).Collect(ctx); err == nil {
		t.Error("no error")
	}
}

// With only a url, what an earlier fetch left is not what the server has now.
func TestLockingFetchesAnew(t *testing.T) {
	texts := map[string]string{"/calicoctl": "old"}
	m := newMirror(t, texts)
	c, dir := config.Default(), t.TempDir()
	c.Calicoctl.URL = config.URL(m.URL + "/calicoctl")
	for _, text := range []string{"old", "new one"} {
		texts["/calicoctl"] = text
		got, err := collector(c, dir, new(bytes.Buffer)).Collect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(got.Items[0].Path)
		if err != nil || string(data) != text {
			t.Errorf("got %q, %v; the server has %q", data, err, text)
		}
		if len(got.Warnings) == 0 || !strings.Contains(strings.Join(got.Warnings, "\n"), "hosts fetch calicoctl from its url") {
			t.Errorf("no word about the sum that a host needs: %v", got.Warnings)
		}
	}
}

func TestProgressIsSaidNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said []string
		p := newProgress(func(line string) { said = append(said, line) })
		for i := range 40 { // a fetch of ten seconds, reported four times a second
			p.moved("node-image", int64(i+1)*1e6, 40e6)
			time.Sleep(250 * time.Millisecond)
		}
		want := []string{"node-image: 13 MB of 40 MB (32 %)", "node-image: 25 MB of 40 MB (62 %)", "node-image: 37 MB of 40 MB (92 %)"}
		if !slices.Equal(said, want) {
			t.Errorf("said %q, want %q", said, want)
		}
	})
}

func TestImageTags(t *testing.T) {
	for name, want := range map[string]string{
		"calico/node:v3.23.0": "v3.23.0", "registry:5000/calico/node": "", "registry:5000/calico/node:v1": "v1",
		"calico/node@sha256:" + sumOf(""): sumOf(""),
	} {
		if got := imageTag(name); got != want {
			t.Errorf("imageTag(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestAnUnsignedPackageIsNotPacked(t *testing.T) {
	m := newMirror(t, threeArtifacts())
	c := pinned(m)
	c.Minions.SignedBy = filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(c.Minions.SignedBy, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := collector(c, t.TempDir(), new(bytes.Buffer)).Collect(t.Context())
	if err == nil || !strings.Contains(err.Error(), c.Minions.SignedBy) {
		t.Errorf("packed, or no word of the key: %v", err)
	}
}
