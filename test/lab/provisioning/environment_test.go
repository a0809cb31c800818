//go:build lab

package provisioning

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/test/lab"
	"github.com/projecteru2/firstboot/test/lab/golden"
	"github.com/projecteru2/firstboot/test/lab/labnet"
	"github.com/projecteru2/firstboot/test/lab/labtest"
)

const (
	// joinTimeout limits a join. Three machines under TCG on two cores need five
	// minutes.
	joinTimeout = 15 * time.Minute
	// reportTimeout limits the wait for a report after the end of a run.
	reportTimeout = time.Minute
	// secret is in the configuration and must not be in any world-readable file.
	secret = "hunter2-of-provisioning"

	webPort, reportPort = 8080, 8081
)

// configTemplate is the configuration of the hosts with Debian 12, as an operator
// writes it. firstboot bundle --lock adds the digests.
const configTemplate = `# The same for all provisioning methods.
etcd:
  endpoints: [%[1]s]
calicoctl:
  version: %[2]s
  url: http://%[4]s:8080/calicoctl
node:
  image: %[3]s
  environment: {LAB_PASSWORD: ` + secret + `}
minions:
  url: http://%[4]s:8080/eru-minions.rpm
pool:
  name: ` + lab.Network + `
  cidr: ` + lab.PoolCIDR + `
docker:
  network: global
report:
  url: http://%[4]s:8081/done
`

// withTLS replaces the endpoints of configTemplate on the hosts with Debian 13.
const withTLS = `endpoints: [%s]
  caFile: /etc/firstboot/etcd/ca.pem
  certFile: /etc/firstboot/etcd/client.pem
  keyFile: /etc/firstboot/etcd/client-key.pem`

// environment is an operator's infrastructure: a lab, a file server, configurations
// and a bundle. Its cluster is mixed: hosts with Debian 12 have a global network and
// use etcd without TLS; hosts with Debian 13 have local networks and use it with TLS.
type environment struct {
	lab      *lab.Lab
	log      func(format string, args ...any)
	web      string // the directory that is served at url
	url      string
	config   string // my.yaml, of the hosts with Debian 12
	config13 string // of the hosts with Debian 13
	bundle   string
	reports  *reportServer

	mu       sync.Mutex
	requests []string // "ADDRESS:PORT PATH" of the requests
}

func newEnvironment(t *testing.T) *environment {
	t.Helper()
	etcd := labnet.EtcdOptions{Mixed: true}
	l := labtest.New(t, lab.Options{Bare: true, Debian: []golden.Release{golden.Debian12, golden.Debian13}, Etcd: etcd})
	e := &environment{log: t.Logf, lab: l, reports: &reportServer{received: map[string][]report{}}}
	e.web, e.config, e.bundle = filepath.Join(e.lab.Dir, "web"), filepath.Join(e.lab.Dir, "my.yaml"), filepath.Join(e.lab.Dir, "bundle")
	labtest.NoError(t, os.Mkdir(e.web, 0o755))
	for name, path := range map[string]string{"calicoctl": e.lab.Parts.Calicoctl, "eru-minions.rpm": e.lab.Parts.MinionsRPM, "firstboot": e.lab.Firstboot} {
		e.publish(t, path, name)
	}
	e.url = e.serve(t, webPort, e.files())
	e.serve(t, reportPort, e.reports)
	own := fmt.Sprintf(configTemplate, e.lab.Etcd.Endpoint, e.lab.Parts.CalicoctlVersion, e.lab.Parts.NodeImageName, e.lab.Net.Gateway())
	labtest.NoError(t, os.WriteFile(e.config, []byte(own), 0o600))
	e.firstboot(t, "bundle", "--config", e.config, "--dir", e.bundle, "--lock", "--write")
	locked, err := os.ReadFile(e.config)
	labtest.NoError(t, err)
	own = strings.NewReplacer("endpoints: ["+l.Etcd.Endpoint+"]", fmt.Sprintf(withTLS, etcd.TLSEndpoint(l.Net.Gateway())), "network: global", "network: auto").Replace(string(locked))
	e.config13 = filepath.Join(l.Dir, "debian13.yaml")
	labtest.NoError(t, os.WriteFile(e.config13, []byte(own), 0o600))
	e.firstboot(t, "validate", e.config)
	e.firstboot(t, "validate", e.config13)
	return e
}

// publish adds a file to the served directory under a name.
func (e *environment) publish(t *testing.T, path, name string) {
	t.Helper()
	labtest.NoError(t, os.Symlink(path, filepath.Join(e.web, name)))
}

func (e *environment) serve(t *testing.T, port int, h http.Handler) string {
	t.Helper()
	url, stop, err := e.lab.Net.Serve(port, h)
	labtest.NoError(t, err)
	t.Cleanup(func() { labtest.NoError(t, stop()) })
	return url
}

// files serves the directory and records the requests.
func (e *environment) files() http.Handler {
	files := http.FileServer(http.Dir(e.web))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		e.requests = append(e.requests, r.RemoteAddr+" "+r.URL.Path)
		e.mu.Unlock()
		files.ServeHTTP(w, r)
	})
}

// requestsOf returns the paths that a host requested, one per line.
func (e *environment) requestsOf(h *lab.Host) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []string
	for _, line := range e.requests {
		if path, ok := strings.CutPrefix(line, h.Address.String()+":"); ok {
			list = append(list, path[strings.Index(path, " ")+1:])
		}
	}
	return strings.Join(list, "\n")
}

// firstboot runs firstboot on the operator's machine, in the lab's network.
func (e *environment) firstboot(t *testing.T, args ...string) string {
	t.Helper()
	out, err := e.runInLab(labtest.Within(t, 5*time.Minute), e.lab.Firstboot, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// runInLab runs a command of this machine in the lab's network.
func (e *environment) runInLab(ctx context.Context, name string, args ...string) (string, error) {
	return run(ctx, "ip", append([]string{"netns", "exec", e.lab.Net.Namespace, name}, args...)...)
}

// run runs a command of this machine and returns its output.
func run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return output.String(), fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, &output)
	}
	return output.String(), nil
}

// calicoctl runs the lab's calicoctl in the lab's network, but not on a host.
func (e *environment) calicoctl(t *testing.T, args ...string) string {
	t.Helper()
	args = slices.Concat(e.lab.Etcd.CalicoctlEnvironment(), []string{e.lab.Parts.Calicoctl}, args)
	out, err := e.runInLab(labtest.Within(t, time.Minute), "env", args...)
	labtest.NoError(t, err)
	return out
}

// report is a document that a host posted to report.url.
type report struct {
	State string
	Text  string
}

// reportServer receives the reports of hosts.
type reportServer struct {
	mu       sync.Mutex
	received map[string][]report // by the host name in the header
}

func (r *reportServer) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(io.LimitReader(q.Body, 1<<20))
	var status report
	if err == nil && q.Method == http.MethodPost && q.URL.Path == "/done" {
		err = json.Unmarshal(body, &status)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	status.Text = string(body)
	r.mu.Lock()
	defer r.mu.Unlock()
	name := q.Header.Get("X-Firstboot-Host")
	r.received[name] = append(r.received[name], status)
}

// of returns the reports of one host.
func (r *reportServer) of(name string) []report {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.received[name])
}

// wantReported checks that the host reports its completion once, without the
// secret. The report is delivered after the end of the run.
func (e *environment) wantReported(t *testing.T, h *lab.Host) {
	t.Helper()
	labtest.NoError(t, h.Wait(labtest.Within(t, reportTimeout), "its report", func(context.Context) error {
		if len(e.reports.of(h.Name)) == 0 {
			return errors.New("there is none")
		}
		return nil
	}))
	got := e.reports.of(h.Name)
	if len(got) != 1 || got[0].State != "complete" {
		t.Errorf("%s reported %+v, want one report with the state complete", h.Name, got)
		return
	}
	labtest.Contains(t, got[0].Text, `"config_digest"`, `"machine"`, `"verify"`)
	labtest.NotContains(t, got[0].Text, secret)
}
