package stages_test

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/projecteru2/firstboot/internal/adapter"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/host"
)

// fakeDocker serves the Engine API as Docker 20.10 does, with its measured traps:
// a cluster store that is shown but not in effect, networks that need the store,
// the plugin and IPv6 disabled, and names that are unique in the cluster.
type fakeDocker struct {
	w    *fakeSystem
	idle sync.WaitGroup // done when no request is being served

	mu                sync.Mutex
	version           string
	dataRoot          string
	up                bool
	unresponsive      bool // closes every connection without a response
	swarm             string
	runtime           string // the default runtime
	effectiveStore    string // the cluster store in effect
	shownStore        string // the cluster store that /info shows
	ignoresReload     bool   // a reload changes nothing
	requestsWhileDown int    // each would start Docker
	lists             int    // queries of all networks
	pings             int    // of its API version
	changes           []string
	images            map[string]image
	containers        map[string]*container
	own               []dockerd.Network // local networks
	pullable          map[string]bool
	execs             []execution
	pids              int
	noReply           map[string]bool // addresses of containers that do not reply to a ping
	pluginScope       string          // the scope of the plugin, as Docker knows it; "": it has not called it
	omitNetworks      int             // so many lists of networks omit the cluster's networks
	// onContainerStart may change a started container, or the files in its
	// /proc/PID/net.
	onContainerStart func(c *container, proc map[string]string)
	pullFails        httpAnswer // to a pull of an image that is not pullable
	// onInfo is called between the request for /info and its response.
	onInfo func()
}

type httpAnswer struct {
	status int
	body   string
}

type image struct{ ID string }

type container struct {
	ID, Name, Image, ImageID, Network, Error string
	Env                                      []string
	Labels                                   map[string]string
	Address, NetworkID                       string
	Pid                                      int
	Running                                  bool
	Restart                                  bool // --restart=always
}

type execution struct {
	code   int
	output string
}

func newFakeDocker(w *fakeSystem) *fakeDocker {
	bridge := dockerd.Network{ID: "0b", Name: "bridge", Scope: "local", Driver: "bridge"}
	bridge.IPAM.Config = append(bridge.IPAM.Config, struct{ Subnet string }{"172.17.0.0/16"})
	return &fakeDocker{
		pullFails: httpAnswer{http.StatusNotFound, "manifest for calico/node:v3.23.0 not found: manifest unknown: manifest unknown"},
		w:         w, version: "20.10.24+dfsg1", dataRoot: "/var/lib/docker", swarm: "inactive", runtime: "runc",
		images: map[string]image{}, containers: map[string]*container{}, pullable: map[string]bool{}, noReply: map[string]bool{},
		own: []dockerd.Network{bridge, {ID: "0h", Name: "host", Scope: "local", Driver: "host"}},
	}
}

// serve listens even while Docker is stopped, as docker.socket does.
func (d *fakeDocker) serve() {
	l := listen(d.w.t, d.w.file(dockerd.Socket))
	mux := http.NewServeMux()
	for pattern, answer := range map[string]func(*http.Request) (int, any){
		"GET /_ping":                           d.pingDaemon,
		"GET /v1.40/info":                      d.info,
		"GET /v1.40/networks":                  d.networks,
		"POST /v1.40/networks/create":          d.createNetwork,
		"POST /v1.40/networks/{id}/disconnect": d.disconnect,
		"DELETE /v1.40/networks/{id}":          d.removeNetwork,
		"GET /v1.40/images/{name...}":          d.image,
		"DELETE /v1.40/images/{name...}":       d.removeImage,
		"POST /v1.40/images/load":              d.load,
		"POST /v1.40/images/create":            d.create,
		"GET /v1.40/containers/json":           d.list,
		"GET /v1.40/containers/{id}/json":      d.inspect,
		"POST /v1.40/containers/create":        d.createContainer,
		"POST /v1.40/containers/{id}/start":    d.startContainer,
		"DELETE /v1.40/containers/{id}":        d.removeContainer,
		"POST /v1.40/containers/{id}/exec":     d.exec,
		"POST /v1.40/exec/{id}/start":          d.execStart,
		"GET /v1.40/exec/{id}/json":            d.execState,
	} {
		mux.HandleFunc(pattern, d.answer(answer))
	}
	go func() { _ = http.Serve(l, mux) }() //nolint:gosec // only in a test
}

// answer sends JSON, plain text, or an error as Docker does.
func (d *fakeDocker) answer(with func(*http.Request) (int, any)) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		d.idle.Add(1)
		defer d.idle.Done()
		d.mu.Lock()
		up, unresponsive := d.up, d.unresponsive
		if !up {
			d.requestsWhileDown++
		}
		if r.Method != http.MethodGet {
			d.changes = append(d.changes, r.Method+" "+strings.TrimPrefix(r.URL.Path, "/v1.40"))
		}
		d.mu.Unlock()
		if !up || unresponsive {
			panic(http.ErrAbortHandler)
		}
		status, body := with(r)
		rw.Header().Set("Api-Version", "1.40")
		rw.WriteHeader(status)
		if text, plain := body.(string); plain && status < 400 {
			_, _ = io.WriteString(rw, text)
			return
		}
		if status >= 400 {
			body = map[string]any{"message": fmt.Sprint(body)}
		}
		_ = json.NewEncoder(rw).Encode(body)
	}
}

// begin starts Docker, which reads its cluster store from daemon.json.
func (d *fakeDocker) begin(string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	store, err := d.configured()
	if err == nil && store != "" && !d.hasStores() {
		err = errors.New("the following directives don't match any configuration option: cluster-store")
	}
	if err != nil {
		return err
	}
	d.pluginScope = ""
	d.up, d.effectiveStore, d.shownStore = true, store, store
	for _, c := range d.containers {
		c.Running = c.Restart && d.w.pluginRuns()
	}
	return nil
}

func (d *fakeDocker) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.up = false
	for name, c := range d.containers {
		c.Running = false
		if !c.Restart {
			delete(d.containers, name)
		}
	}
}

// reload sets a first cluster store if daemon.json also has an address to
// advertise. It does not change an existing store, but shows the new one.
func (d *fakeDocker) reload() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	store, err := d.configured()
	if err != nil || d.ignoresReload {
		return err
	}
	if d.effectiveStore == "" {
		data, _ := os.ReadFile(d.w.file("/etc/docker/daemon.json"))
		if !strings.Contains(string(data), `"cluster-advertise"`) {
			return nil
		}
		d.effectiveStore = store
	}
	d.shownStore = store
	return nil
}

func (d *fakeDocker) configured() (string, error) {
	data, err := os.ReadFile(d.w.file("/etc/docker/daemon.json"))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	var c map[string]any
	if err := json.Unmarshal(data, &c); err != nil {
		return "", fmt.Errorf("unable to configure the Docker daemon with file /etc/docker/daemon.json: %w", err)
	}
	store, _ := c["cluster-store"].(string)
	return store, nil
}

func (d *fakeDocker) pingDaemon(*http.Request) (int, any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pings++
	return http.StatusOK, "OK"
}

func (d *fakeDocker) info(*http.Request) (int, any) {
	if d.onInfo != nil {
		d.onInfo()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return http.StatusOK, map[string]any{
		"ServerVersion": d.version, "ClusterStore": d.shownStore, "DockerRootDir": d.dataRoot,
		"DefaultRuntime": d.runtime, "Swarm": map[string]string{"LocalNodeState": d.swarm},
	}
}

// all lists Docker's networks, with the cluster's only if a cluster store is in
// effect.
func (d *fakeDocker) all() []dockerd.Network {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := slices.Clone(d.own)
	if d.omitNetworks > 0 { // as Docker does if its store responds late
		d.omitNetworks--
	} else if d.effectiveStore != "" {
		list = append(list, d.w.cluster.dockerNetworks()...)
	}
	return list
}

// removeOwn removes this host's networks of a driver, as a person does. A request of a
// run that was stopped may still be in progress.
func (d *fakeDocker) removeOwn(driver string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.own = slices.DeleteFunc(d.own, func(n dockerd.Network) bool { return n.Driver == driver })
}

func (d *fakeDocker) networks(*http.Request) (int, any) {
	d.mu.Lock()
	d.lists++
	d.mu.Unlock()
	return http.StatusOK, d.all()
}

func (d *fakeDocker) createNetwork(r *http.Request) (int, any) {
	var n dockerd.Network
	if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
		return http.StatusBadRequest, err
	}
	d.mu.Lock()
	store := d.effectiveStore
	scope := d.activatePlugin()
	d.mu.Unlock()
	switch {
	case scope == "local":
		return d.createLocalNetwork(n)
	case store == "":
		return http.StatusServiceUnavailable, "This node is not a swarm manager."
	case !d.w.pluginRuns():
		return http.StatusInternalServerError, "legacy plugin: dial unix /run/docker/plugins/calico.sock: connect: connection refused"
	}
	id, err := d.w.cluster.addNetwork(n)
	if err != nil {
		return http.StatusConflict, err
	}
	return http.StatusCreated, map[string]string{"Id": id}
}

// hasStores reports whether this version of Docker has cluster stores.
func (d *fakeDocker) hasStores() bool {
	major, _, _ := dockerd.Release(d.version)
	return major <= 20
}

// activatePlugin returns the plugin's scope. Docker keeps it until it restarts.
func (d *fakeDocker) activatePlugin() string {
	if d.pluginScope == "" {
		d.pluginScope = "global"
		if d.w.adapterRuns() {
			d.pluginScope = "local"
		}
	}
	return d.pluginScope
}

// createLocalNetwork creates a network of this host, if the adapter agrees.
func (d *fakeDocker) createLocalNetwork(n dockerd.Network) (int, any) {
	served, err := adapter.Load(host.New(d.w.root))
	switch {
	case err != nil:
		return http.StatusInternalServerError, "NetworkDriver.CreateNetwork: " + err.Error()
	case len(n.Subnets()) != 1 || n.Subnets()[0] != served.CIDR.String():
		return http.StatusInternalServerError, "NetworkDriver.CreateNetwork: not the pool"
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, other := range d.own {
		if other.Name == n.Name {
			return http.StatusConflict, "network with name " + n.Name + " already exists"
		}
	}
	n.ID, n.Scope = fakeID("network of "+d.w.name), "local"
	d.own = append(d.own, n)
	d.w.cluster.pauseAt("the local network is stored")
	return http.StatusCreated, map[string]string{"Id": n.ID}
}

func (d *fakeDocker) removeNetwork(r *http.Request) (int, any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := len(d.own)
	d.own = slices.DeleteFunc(d.own, func(n dockerd.Network) bool { return n.ID == r.PathValue("id") })
	if len(d.own) == before {
		return http.StatusNotFound, "network not found"
	}
	return http.StatusNoContent, ""
}

func (d *fakeDocker) disconnect(r *http.Request) (int, any) {
	var body struct{ Container string }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return http.StatusBadRequest, err
	}
	if !d.w.cluster.release(body.Container) {
		return http.StatusNotFound, "container " + body.Container + " is not connected to the network"
	}
	return http.StatusOK, ""
}

// image serves /images/NAME/json, where NAME may contain slashes.
func (d *fakeDocker) image(r *http.Request) (int, any) {
	name := strings.TrimSuffix(r.PathValue("name"), "/json")
	d.mu.Lock()
	defer d.mu.Unlock()
	found, ok := d.images[name]
	if !ok {
		return http.StatusNotFound, "No such image: " + name
	}
	return http.StatusOK, map[string]any{"Id": found.ID, "RepoTags": []string{name}}
}

func (d *fakeDocker) removeImage(r *http.Request) (int, any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name := r.PathValue("name")
	if _, ok := d.images[name]; !ok {
		return http.StatusNotFound, "No such image: " + name
	}
	delete(d.images, name)
	return http.StatusOK, "[]"
}

// load reads an archive of docker save.
func (d *fakeDocker) load(r *http.Request) (int, any) {
	archive := tar.NewReader(r.Body)
	for {
		header, err := archive.Next()
		if err != nil {
			return http.StatusInternalServerError, "open manifest.json: no such file"
		}
		if header.Name != "manifest.json" {
			continue
		}
		var manifest []struct {
			Config   string
			RepoTags []string
		}
		if err := json.NewDecoder(archive).Decode(&manifest); err != nil {
			return http.StatusInternalServerError, err
		}
		d.mu.Lock()
		var out strings.Builder
		for _, tag := range manifest[0].RepoTags {
			d.images[tag] = image{ID: "sha256:" + strings.TrimSuffix(manifest[0].Config, ".json")}
			fmt.Fprintf(&out, `{"stream":"Loaded image: %s\n"}`+"\r\n", tag)
		}
		d.mu.Unlock()
		d.w.cluster.pauseAt("the image is loaded")
		return http.StatusOK, out.String()
	}
}

func fakeID(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// create pulls an image.
func (d *fakeDocker) create(r *http.Request) (int, any) {
	query := r.URL.Query()
	d.mu.Lock()
	defer d.mu.Unlock()
	if name := query.Get("fromImage"); name != "" {
		if !d.pullable[name] {
			return d.pullFails.status, d.pullFails.body
		}
		d.images[name] = image{ID: "sha256:" + fakeID(name)}
		return http.StatusOK, `{"status":"Downloaded newer image"}` + "\n"
	}
	return http.StatusBadRequest, "an import"
}
