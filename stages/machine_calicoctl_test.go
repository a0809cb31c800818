package stages_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/units"
)

// fakeCalicoctl does what `calicoctl create -f -` and `calicoctl patch ippool`
// do (measured), as far as the pool stage needs it.
func (w *fakeSystem) fakeCalicoctl(c host.Command) CommandResult {
	if err := w.calicoctlConfig(c.Args); err != nil {
		return CommandResult{Exit: 1, Stderr: err.Error()}
	}
	switch c.Args[0] {
	case "create":
		return w.calicoctlCreate(c.Stdin)
	case "patch":
		return w.calicoctlPatch(c.Args)
	case "delete":
		w.cluster.remove("nodes/" + c.Args[2])
		return CommandResult{}
	}
	return CommandResult{Exit: 1, Stderr: "the fake does not support this command"}
}

// calicoctlConfig parses calicoctl.cfg strictly, as calicoctl does.
func (w *fakeSystem) calicoctlConfig(args []string) error {
	path := ""
	for _, a := range args {
		if p, ok := strings.CutPrefix(a, "--config="); ok {
			path = p
		}
	}
	data, err := os.ReadFile(w.file(path))
	if err != nil {
		return err
	}
	var cfg struct {
		APIVersion string         `yaml:"apiVersion"`
		Kind       string         `yaml:"kind"`
		Metadata   map[string]any `yaml:"metadata"`
		Spec       struct {
			DatastoreType string `yaml:"datastoreType"`
			EtcdEndpoints string `yaml:"etcdEndpoints"`
			CA            string `yaml:"etcdCACertFile"`
			Cert          string `yaml:"etcdCertFile"`
			Key           string `yaml:"etcdKeyFile"`
		} `yaml:"spec"`
	}
	if err := yaml.UnmarshalWithOptions(data, &cfg, yaml.Strict()); err != nil {
		return err
	}
	if cfg.APIVersion != "projectcalico.org/v3" || cfg.Kind != "CalicoAPIConfig" || cfg.Spec.DatastoreType != "etcdv3" || cfg.Spec.EtcdEndpoints != w.cluster.endpoint {
		return fmt.Errorf("calicoctl.cfg does not name the cluster's etcd: %+v", cfg)
	}
	return nil
}

func (w *fakeSystem) calicoctlCreate(stdin []byte) CommandResult {
	var list []map[string]any
	if err := json.Unmarshal(stdin, &list); err != nil {
		return CommandResult{Exit: 1, Stderr: err.Error()}
	}
	var result CommandResult
	for _, r := range list {
		if result = w.createResource(r); result.Exit != 0 {
			break
		}
	}
	return result
}

func (w *fakeSystem) createResource(r map[string]any) CommandResult {
	kind := map[any]string{"Profile": "profiles", "IPPool": "ippools"}[r["kind"]]
	name, _ := meta(r)["name"].(string)
	if kind == "" || name == "" {
		return CommandResult{Exit: 1, Stderr: fmt.Sprintf("the fake does not support resource type '%v'", r["kind"])}
	}
	created, err := w.cluster.create(kind, name, r)
	if w.cluster.pauseAt(fmt.Sprintf("%s is created", r["kind"])) {
		err = errPower
	}
	switch {
	case err != nil:
		return CommandResult{Exit: 1, Stderr: err.Error()}
	case !created:
		return CommandResult{Exit: 1, Stderr: fmt.Sprintf("Failed to create '%s' resource: [resource already exists: %s(%s)]\n", r["kind"], r["kind"], name)}
	}
	return CommandResult{Stdout: fmt.Sprintf("Successfully created 1 '%s' resource(s)\n", r["kind"])}
}

// calicoctlPatch deletes the annotations that the patch does not set, as
// calicoctl does.
func (w *fakeSystem) calicoctlPatch(args []string) CommandResult {
	name, text := args[2], args[len(args)-1]
	pool := w.cluster.resource("ippools", name)
	var patch struct {
		Metadata struct{ Annotations map[string]any }
		Spec     map[string]any
	}
	if pool == nil || json.Unmarshal([]byte(text), &patch) != nil {
		return CommandResult{Exit: 1, Stderr: "resource does not exist: IPPool(" + name + "), or not a patch: " + text}
	}
	meta(pool)["annotations"] = patch.Metadata.Annotations
	for key, value := range patch.Spec {
		spec(pool)[key] = value
	}
	w.cluster.store("ippools", name, pool)
	w.cluster.pauseAt("the pool is patched")
	w.cluster.mu.Lock()
	w.cluster.created["patch"]++
	w.cluster.mu.Unlock()
	return CommandResult{Stdout: "Successfully patched 1 'IPPool' resource\n"}
}

// noPeers is birdcl's output on a cluster's only host.
const noPeers = `BIRD 1.6.8 ready.
name     proto    table    state  since       info
static1  Static   master   up     10:00:00
kernel1  Kernel   master   up     10:00:00
device1  Device   master   up     10:00:00
`

// fakeNode is calico-node, which its unit starts with docker run.
type fakeNode struct {
	w         *fakeSystem
	unready   string // the output of the readiness command; "": ready
	protocols string // the output of birdcl
	failed    string // the error of the last start
	silent    bool   // neither Felix's port nor BIRD's socket answers on the host
	starting  int    // how many replies of Felix say that all of its parts are ready, before it starts its data plane
}

// serve serves Felix's health port and BIRD's socket while the container runs.
func (n *fakeNode) serve() {
	health := listen(n.w.t, n.w.file("/run/port9099"))
	go func() { //nolint:gosec // only in a test
		_ = http.Serve(health, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			switch unready, parts := n.state(); {
			case !n.runs() || r.URL.Path != "/readiness":
				panic(http.ErrAbortHandler)
			case unready != "":
				rw.WriteHeader(http.StatusServiceUnavailable)
			default:
				_, _ = io.WriteString(rw, parts)
			}
		}))
	}()
	bird := listen(n.w.t, n.w.file("/var/run/calico/bird.ctl"))
	go func() {
		for {
			conn, err := bird.Accept()
			if err != nil {
				return // the test has ended
			}
			go n.serveBIRD(conn)
		}
	}()
}

// state returns what Felix's health port answers: unready, or that its parts are ready.
func (n *fakeNode) state() (unready, parts string) {
	n.w.docker.mu.Lock()
	defer n.w.docker.mu.Unlock()
	parts = "| felix-startup | 0s | reporting live | reporting ready | |\n"
	if n.starting--; n.starting < 0 {
		parts += "| int_dataplane | 1m30s | reporting live | reporting ready | |\n"
	}
	return n.unready, parts
}

func (n *fakeNode) runs() bool {
	n.w.docker.mu.Lock()
	defer n.w.docker.mu.Unlock()
	c := n.w.docker.containers["calico-node"]
	return c != nil && c.Running && !n.silent
}

// serveBIRD answers one command as BIRD's control socket does.
func (n *fakeNode) serveBIRD(conn net.Conn) {
	defer conn.Close()
	if !n.runs() {
		return
	}
	_, _ = io.WriteString(conn, "0001 BIRD 1.6.8 ready.\n")
	command, _ := bufio.NewReader(conn).ReadString('\n')
	switch strings.TrimSpace(command) {
	case "show status":
		_, _ = io.WriteString(conn, "1000-BIRD 1.6.8\n1011-Router ID is 10.0.0.2\n Current server time is now\n0013 Daemon is up and running\n")
	case "show protocols":
		reply := ""
		for i, line := range strings.Split(strings.TrimSpace(n.protocols), "\n")[1:] {
			reply += map[int]string{0: "2002-", 1: "1002-"}[i]
			if i > 1 {
				reply += " "
			}
			reply += line + "\n"
		}
		_, _ = io.WriteString(conn, reply+"0000 \n")
	default:
		_, _ = io.WriteString(conn, "9001 syntax error\n")
	}
}

// begin runs the `docker run` of the unit. The container registers its Node in
// etcd and writes its name to /var/lib/calico/nodename.
func (n *fakeNode) begin(unit string) error {
	err := n.run(execStart(unit))
	n.failed = ""
	if err != nil {
		n.failed = err.Error()
	}
	return err
}

func (n *fakeNode) run(words []string) error {
	d := n.w.docker
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.up {
		return errors.New("Cannot connect to the Docker daemon")
	}
	if len(words) < 4 || !strings.HasSuffix(words[0], "docker") || words[1] != "--config="+units.DockerConfigDir || words[2] != "run" {
		return fmt.Errorf("not a docker run: %q", words)
	}
	c := &container{ID: "node" + n.w.name, Image: words[len(words)-1], Network: "host", Running: true}
	env := map[string]string{}
	for i, word := range words {
		if name, ok := strings.CutPrefix(word, "--name="); ok {
			c.Name = name
		}
		if path, ok := strings.CutPrefix(word, "--env-file="); ok {
			lines, err := os.ReadFile(n.w.file(path))
			if err != nil {
				return err
			}
			c.Env = append(c.Env, strings.Split(strings.TrimSuffix(string(lines), "\n"), "\n")...)
		}
		if word == "-e" {
			c.Env = append(c.Env, words[i+1])
		}
	}
	for _, variable := range c.Env {
		key, value, _ := strings.Cut(variable, "=")
		env[key] = value
	}
	found, ok := d.images[c.Image]
	if !ok {
		return errors.New("Unable to find image " + c.Image)
	}
	c.ImageID, c.Pid = found.ID, nodePID
	d.containers[c.Name] = c
	n.setConfd("run\n")
	putFile(n.w.t, n.w.root, "/var/lib/calico/nodename", env["NODENAME"], 0o644)
	n.register(env)
	return nil
}

// nodePID is the PID of calico-node's first process.
const nodePID = 999

// setConfd writes the state of confd as its supervisor does.
func (n *fakeNode) setConfd(state string) {
	putFile(n.w.t, n.w.root, fmt.Sprintf("/proc/%d/root/etc/service/enabled/confd/supervise/stat", nodePID), state, 0o644)
}

func (n *fakeNode) register(env map[string]string) {
	f := n.w.cluster
	if f.etcd == nil || env["ETCD_ENDPOINTS"] != f.endpoint {
		return
	}
	f.store("nodes", env["NODENAME"], resource("Node", env["NODENAME"], map[string]any{
		"bgp": map[string]any{"ipv4Address": env["IP"] + "/24", "asNumber": env["AS"]},
	}))
	f.store("clusterinformations", "default", resource("ClusterInformation", "default", map[string]any{"calicoVersion": "v3.23.0", "datastoreReady": true}))
}

func (n *fakeNode) end() {
	n.w.docker.mu.Lock()
	defer n.w.docker.mu.Unlock()
	delete(n.w.docker.containers, "calico-node")
	_ = os.RemoveAll(n.w.file(fmt.Sprintf("/proc/%d", nodePID)))
}

func (n *fakeNode) execute(command []string) execution {
	switch strings.Join(command, " ") {
	case "calico-node -felix-ready -bird-live":
		if n.unready != "" {
			return execution{1, n.unready + "\n"}
		}
		return execution{0, ""}
	case "birdcl -s /var/run/calico/bird.ctl show protocols":
		return execution{0, n.protocols}
	}
	return execution{127, "OCI runtime exec failed: executable file not found"}
}
