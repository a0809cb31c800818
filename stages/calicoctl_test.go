package stages_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/calico"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/state"
)

func TestCalicoctlIsInstalled(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.wantDifference("calicoctl", "missing", "v3.23.0")
	m.mustApply("calicoctl")
	info, err := os.Stat(m.file(calico.CtlPath))
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", info, err)
	}
	if m.get(calico.CtlPath) != calicoctlScript("v3.23.0") {
		t.Error("the installed file is not the artifact")
	}
}

func TestInstalledCalicoctlIsCheckedAndReplaced(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what, text string
		mode       os.FileMode
		config     string
		words      []string // of the difference; nil: no difference
	}{
		{"right", calicoctlScript("v3.23.0"), 0o755, "", nil},
		{"right, without a pinned digest", calicoctlScript("v3.23.0") + "# built here\n", 0o755, `calicoctl: {url: "", sha256: ""}`, nil},
		{"not executable", calicoctlScript("v3.23.0"), 0o644, "", []string{"not executable", "0755"}},
		{"truncated", calicoctlScript("v3.23.0")[:20], 0o755, "", []string{"sha256 "}},
		{"another release", calicoctlScript("v3.22.0"), 0o755, `calicoctl: {url: "", sha256: ""}`, []string{"version v3.22.0", "v3.23.0"}},
		{"an HTML page", "<html>404</html>\n", 0o755, `calicoctl: {url: "", sha256: ""}`, []string{"expected v3.23.0"}},
		{"a program that prints nothing", "#!/bin/sh\n", 0o755, `calicoctl: {url: "", sha256: ""}`, []string{"no client version"}},
		{"an empty file", "", 0o755, `calicoctl: {url: "", sha256: ""}`, []string{"expected v3.23.0"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			m := newMachine(t)
			m.override(c.config)
			putFile(t, m.root, calico.CtlPath, c.text, c.mode)
			if c.words == nil {
				m.wantNoDifferences("calicoctl")
				return
			}
			m.wantDifference("calicoctl", c.words...)
			m.override(fmt.Sprintf("calicoctl: {url: %q, sha256: %q}", m.artifacts.calicoctl, digestOf(m.artifacts.calicoctl)))
			m.mustApply("calicoctl")
		})
	}
}

// serve makes the machine fetch calicoctl from a web server.
func (m *machine) serve(answer http.HandlerFunc) {
	m.t.Helper()
	s := httptest.NewServer(answer)
	m.t.Cleanup(s.Close)
	m.override(fmt.Sprintf("calicoctl: {url: %q}", s.URL+"/calicoctl"))
}

// TestOnlyThePinnedCalicoctlIsInstalled, whatever the server sends.
func TestOnlyThePinnedCalicoctlIsInstalled(t *testing.T) {
	t.Parallel()
	good := calicoctlScript("v3.23.0")
	for what, c := range map[string]struct {
		answer http.HandlerFunc
		waits  bool
	}{
		"404":           {http.NotFound, false},
		"another file":  {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }, false},
		"a busy server": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }, true},
		"a broken download": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(good)))
			fmt.Fprint(w, good[:10])
		}, true},
	} {
		t.Run(what, func(t *testing.T) {
			m := newMachine(t)
			m.serve(c.answer)
			err := m.apply(t.Context(), "calicoctl")
			wait, waits := asError[*engine.Wait](err)
			if err == nil || waits != c.waits {
				t.Errorf("got %v", err)
			}
			if waits {
				wantWords(t, wait.For, "the download of calicoctl from http://127.0.0.1:")
			}
			if fileExists(m.file(calico.CtlPath)) {
				t.Errorf("%s exists after a failed download", calico.CtlPath)
			}
			m.serve(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, m.artifacts.calicoctl) })
			m.mustApply("calicoctl")
		})
	}
}

// TestRetryAfterIsHonoured if it is valid, up to five minutes.
func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{"": 0, "7": 7 * time.Second, "-1": 0, "soon": 0, "99999999999": 5 * time.Minute} {
		for _, status := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
			m := newMachine(t)
			m.serve(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", value)
				w.WriteHeader(status)
			})
			wait, waits := asError[*engine.Wait](m.apply(t.Context(), "calicoctl"))
			if !waits || wait.After != want {
				t.Errorf("%d, %q: %+v, want %v", status, value, wait, want)
			}
		}
	}
}

func TestCalicoctlRefusesTheWrongArtifact(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		text  string
		words []string
	}{
		"another release":      {calicoctlScript("v3.22.0"), []string{"v3.22.0", "v3.23.0", "calicoctl.version"}},
		"another architecture": {"\x7fELF not for here", []string{"not a calicoctl that runs on this machine", "architecture"}},
	} {
		m := newMachine(t)
		if err := os.WriteFile(m.artifacts.calicoctl, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		m.override(fmt.Sprintf("calicoctl: {sha256: %q}", digestOf(m.artifacts.calicoctl)))
		t.Log(what)
		m.wantPermanentError("calicoctl", c.words...)
		if fileExists(m.file(calico.CtlPath)) || fileExists(m.file("/usr/bin/"+trial)) {
			t.Errorf("%s: the wrong artifact was installed", what)
		}
		// Nor does it replace an installed calicoctl.
		putFile(t, m.root, calico.CtlPath, calicoctlScript("v3.21.0"), 0o755)
		m.wantPermanentError("calicoctl", c.words...)
		if m.get(calico.CtlPath) != calicoctlScript("v3.21.0") || fileExists(m.file("/usr/bin/"+trial)) {
			t.Errorf("%s: the wrong artifact replaced the installed calicoctl", what)
		}
	}
}

func TestArtifactsComeFromTheBundle(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.override(`{calicoctl: {url: "", sha256: ""}, node: {url: "", sha256: ""}, minions: {url: "", sha256: ""}}`)
	m.wantPermanentError("calicoctl", "calicoctl.url", "bundle")
	m.bundle()
	m.mustApply("calicoctl", "config", "docker", "minions")
	if m.docker.images["calico/node:v3.23.0"].ID == "" || m.installed != "eru-minions-1.2.3-1" {
		t.Errorf("installed: %v, %s", m.docker.images, m.installed)
	}
}

func TestPrefetchFetchesOnlyMissingArtifacts(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	var requested strings.Builder
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requested.WriteString(r.URL.Path)
		http.ServeFile(w, r, map[string]string{"/c": m.artifacts.calicoctl, "/i": m.artifacts.image, "/m": m.artifacts.rpm}[r.URL.Path])
	}))
	t.Cleanup(s.Close)
	m.override(fmt.Sprintf("{calicoctl: {url: %[1]s/c}, node: {url: %[1]s/i}, minions: {url: %[1]s/m}}", s.URL))
	m.hasVerifiedImage()
	m.rpmInstall([]string{"--nodeps", m.artifacts.rpm})
	m.notes.n.Installed["eru-minions"] = state.Installed{Artifact: digestOf(m.artifacts.rpm), ID: m.installed + " " + m.sigMD5}
	m.env().Prefetch(t.Context())
	if requested.String() != "/c" {
		t.Errorf("fetched %s, want calicoctl only", &requested)
	}
	s.Close()
	m.mustApply("calicoctl") // from the cache
}
