//go:build lab

package provisioning

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/test/lab"
	"github.com/projecteru2/firstboot/test/lab/labtest"
)

const (
	// joinTime bounds a join; three machines under TCG on two cores need five
	// minutes.
	joinTime = 15 * time.Minute
	// secret is in the configuration, and must be in nothing that all can read.
	secret = "hunter2-of-the-ways"

	webPort, reportPort = 8080, 8081
)

// text is the configuration of every host, as an operator writes it: the sums
// are filled in by firstboot bundle --lock.
const text = `# The same for all four ways in.
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
report:
  url: http://%[4]s:8081/done
`

// site is an operator's: a folder that is served, a configuration, a bundle.
type environment struct {
	lab    *lab.Lab
	log    func(format string, args ...any)
	web    string // the folder, at url
	url    string
	config string // my.yaml
	bundle string
	hooks  *reports

	mu    sync.Mutex
	asked []string // paths that were asked for
}

func newEnvironment(t *testing.T) *environment {
	t.Helper()
	s := &environment{log: t.Logf, lab: labtest.New(t, lab.Options{Bare: true}), hooks: &reports{got: map[string][]report{}}}
	s.web, s.config, s.bundle = filepath.Join(s.lab.Dir, "web"), filepath.Join(s.lab.Dir, "my.yaml"), filepath.Join(s.lab.Dir, "bundle")
	labtest.NoError(t, os.Mkdir(s.web, 0o755))
	for name, path := range map[string]string{"calicoctl": s.lab.Parts.Calicoctl, "eru-minions.rpm": s.lab.Parts.MinionsRPM, "firstboot": s.lab.Firstboot} {
		s.publish(t, path, name)
	}
	s.url = s.serve(t, webPort, s.files())
	s.serve(t, reportPort, s.hooks)
	own := fmt.Sprintf(text, s.lab.Etcd.Endpoint, s.lab.Parts.CalicoctlVersion, s.lab.Parts.NodeImageName, s.lab.Net.Gateway())
	labtest.NoError(t, os.WriteFile(s.config, []byte(own), 0o600))
	s.firstboot(t, "bundle", "--config", s.config, "--dir", s.bundle, "--lock", "--write")
	s.firstboot(t, "validate", s.config)
	return s
}

// publish puts a file into the folder under a name.
func (s *environment) publish(t *testing.T, path, name string) {
	t.Helper()
	labtest.NoError(t, os.Symlink(path, filepath.Join(s.web, name)))
}

func (s *environment) serve(t *testing.T, port int, h http.Handler) string {
	t.Helper()
	url, stop, err := s.lab.Net.Serve(port, h)
	labtest.NoError(t, err)
	t.Cleanup(func() { labtest.NoError(t, stop()) })
	return url
}

// files serves the folder, and remembers what it was asked for.
func (s *environment) files() http.Handler {
	files := http.FileServer(http.Dir(s.web))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked = append(s.asked, r.RemoteAddr+" "+r.URL.Path)
		s.mu.Unlock()
		files.ServeHTTP(w, r)
	})
}

// askedBy lists what a host asked for, a path a line.
func (s *environment) askedBy(h *lab.Host) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []string
	for _, line := range s.asked {
		if path, ok := strings.CutPrefix(line, h.Address.String()+":"); ok {
			list = append(list, path[strings.Index(path, " ")+1:])
		}
	}
	return strings.Join(list, "\n")
}

// firstboot runs the product where an operator prepares hosts.
func (s *environment) firstboot(t *testing.T, args ...string) string {
	t.Helper()
	out, err := s.runInLab(labtest.Within(t, 5*time.Minute), s.lab.Firstboot, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// runInLab runs a command of this machine in the lab's network.
func (s *environment) runInLab(ctx context.Context, name string, args ...string) (string, error) {
	return run(ctx, "ip", append([]string{"netns", "exec", s.lab.Net.Namespace, name}, args...)...)
}

// run runs a command of this machine, and returns what it said. The variables
// are added to its environment.
func run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return said.String(), fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, &said)
	}
	return said.String(), nil
}

// calicoctl runs the lab's calicoctl, as an operator elsewhere.
func (s *environment) calicoctl(t *testing.T, args ...string) string {
	t.Helper()
	args = append([]string{"DATASTORE_TYPE=etcdv3", "ETCD_ENDPOINTS=" + s.lab.Etcd.Endpoint, s.lab.Parts.Calicoctl}, args...)
	out, err := s.runInLab(labtest.Within(t, time.Minute), "env", args...)
	labtest.NoError(t, err)
	return out
}

// report is what a host posted to report.url.
type report struct {
	State string
	Text  string
}

// reports is a provisioning server that is told of hosts.
type reports struct {
	mu  sync.Mutex
	got map[string][]report // by the header that names the host
}

func (r *reports) ServeHTTP(w http.ResponseWriter, q *http.Request) {
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
	r.got[name] = append(r.got[name], status)
}

// reported wants the host to have told once that it is complete, and no secret.
func (s *environment) reported(t *testing.T, h *lab.Host) {
	t.Helper()
	s.hooks.mu.Lock()
	defer s.hooks.mu.Unlock()
	got := s.hooks.got[h.Name]
	if len(got) != 1 || got[0].State != "complete" {
		t.Errorf("%s reported %+v, want that it is complete, once", h.Name, got)
		return
	}
	labtest.Contains(t, got[0].Text, `"config_digest"`, `"machine"`, `"verify"`)
	labtest.NotContains(t, got[0].Text, secret)
}
