package adapter

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// exchange is one call in testdata: what Docker sends, what the plugin gets and
// answers, and what Docker gets.
type exchange struct {
	path, request string
	forwarded     []string // none if the plugin is not called
	plugin        section
	answer        section
	removed       []string // links
}

// section is a response: a file named "NAME STATUS".
type section struct {
	status int
	body   string
}

func readExchange(t *testing.T, m *machine, file string) exchange {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var e exchange
	for _, f := range archive.Files {
		name, status, _ := strings.Cut(f.Name, " ")
		code, _ := strconv.Atoi(status)
		text := strings.TrimSuffix(string(f.Data), "\n")
		switch name {
		case "adapter.json":
			if err := m.WriteFile(Path, f.Data, 0o600); err != nil {
				t.Fatal(err)
			}
		case "path":
			e.path = text
		case "request":
			e.request = text
		case "forwarded":
			e.forwarded = []string{text}
		case "plugin":
			e.plugin = section{code, text}
		case "answer":
			e.answer = section{code, text}
		case "removed":
			e.removed = []string{text}
		default:
			t.Fatalf("unknown section %q", f.Name)
		}
	}
	return e
}

// TestProtocol runs the exchanges in testdata. Their requests have the form of
// Docker 20.10 and 29.
func TestProtocol(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			m := newMachine(t)
			e := readExchange(t, m, file)
			p := m.startPlugin(t, answers(max(e.plugin.status, http.StatusOK), e.plugin.body))
			w := m.post(e.path, e.request)
			if got := (section{w.Code, strings.TrimSuffix(w.Body.String(), "\n")}); got != e.answer {
				t.Errorf("the answer is %v\nwant          %v", got, e.answer)
			}
			var forwarded []string
			for _, body := range p.called() {
				forwarded = append(forwarded, strings.TrimSuffix(body, "\n"))
			}
			if !slices.Equal(forwarded, e.forwarded) {
				t.Errorf("the plugin was called with %q\nwant %q", forwarded, e.forwarded)
			}
			if len(p.paths) > 0 && p.paths[0] != e.path {
				t.Errorf("the plugin was called as %s, want %s", p.paths[0], e.path)
			}
			if !slices.Equal(m.links.removed, e.removed) {
				t.Errorf("removed links %q, want %q", m.links.removed, e.removed)
			}
		})
	}
}

// TestOtherNetworks verifies that all calls of a network outside the pool pass
// through, also after a restart of the adapter.
func TestOtherNetworks(t *testing.T) {
	m := newMachine(t)
	m.setUp(t)
	const joined = `{"GatewayIPv6":"fe80::1","StaticRoutes":[{"Destination":"fe80::1/128","RouteType":1}]}`
	p := m.startPlugin(t, answers(http.StatusOK, joined))
	create := `{"NetworkID":"` + dockerNetwork + `","EndpointID":"` + dockerEndpoint + `","Interface":{"Address":"10.99.0.2/16"}}`
	if w := m.post("/NetworkDriver.CreateEndpoint", create); w.Code != http.StatusOK {
		t.Fatal(w.Code, w.Body)
	}
	m.Adapter = New(m.Host, m.log)
	later := `{"NetworkID":"` + dockerNetwork + `","EndpointID":"` + dockerEndpoint + `"}`
	for _, method := range []string{"Join", "EndpointOperInfo", "ProgramExternalConnectivity", "RevokeExternalConnectivity", "Leave", "DeleteEndpoint", "DeleteNetwork"} {
		if w := m.post("/NetworkDriver."+method, later); w.Body.String() != joined {
			t.Errorf("%s: the plugin's answer was changed: %s", method, w.Body)
		}
	}
	for i, body := range p.called()[1:] {
		if body != later {
			t.Errorf("call %d was changed: %s", i+1, body)
		}
	}
	if len(p.called()) != 8 || len(m.links.removed) > 0 {
		t.Errorf("%d calls, removed links %q", len(p.called()), m.links.removed)
	}
	// The ID is free again.
	if w := m.post("/NetworkDriver.Leave", later); w.Body.String() != "{}\n" {
		t.Errorf("after DeleteNetwork: %s", w.Body)
	}
}

// A network that the plugin refuses to create leaves no record.
func TestRefusedNetworkIsNotRecorded(t *testing.T) {
	m := newMachine(t)
	m.setUp(t)
	m.startPlugin(t, answers(http.StatusInternalServerError, `{"Err":"no"}`))
	body := fmt.Sprintf(`{"NetworkID":%q,"IPv4Data":[{"Pool":"10.99.0.0/16"}]}`, dockerNetwork)
	if w := m.post("/NetworkDriver.CreateNetwork", body); w.Code != http.StatusInternalServerError {
		t.Fatal(w.Code, w.Body)
	}
	if names, err := m.ReadDir(foreignDir); err != nil || len(names) > 0 {
		t.Errorf("%q %v", names, err)
	}
}
