package stages_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/stages"
)

func (d *fakeDocker) list(r *http.Request) (int, any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := []map[string]any{}
	for _, name := range sorted(d.containers) {
		if c := d.containers[name]; c.Running || r.URL.Query().Get("all") != "" {
			list = append(list, map[string]any{"Id": c.ID, "Names": []string{"/" + c.Name}, "Image": c.Image, "Labels": c.Labels,
				"NetworkSettings": map[string]any{"Networks": map[string]any{c.Network: map[string]string{"IPAddress": c.Address, "NetworkID": c.NetworkID}}}})
		}
	}
	return http.StatusOK, list
}

// find returns a container by name or ID.
func (d *fakeDocker) find(r *http.Request) (*container, int, any) {
	for _, c := range d.containers {
		if id := r.PathValue("id"); c.Name == id || c.ID == id {
			return c, 0, nil
		}
	}
	return nil, http.StatusNotFound, "No such container: " + r.PathValue("id")
}

func (d *fakeDocker) inspect(r *http.Request) (int, any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, status, message := d.find(r)
	if c == nil {
		return status, message
	}
	return http.StatusOK, map[string]any{
		"Id": c.ID, "Name": "/" + c.Name, "Image": c.ImageID,
		"Config":          map[string]any{"Image": c.Image, "Env": c.Env, "Labels": c.Labels},
		"State":           map[string]any{"Running": c.Running, "Pid": c.Pid, "Error": c.Error},
		"NetworkSettings": map[string]any{"Networks": map[string]any{c.Network: map[string]string{"IPAddress": c.Address, "NetworkID": c.NetworkID}}},
	}
}

func (d *fakeDocker) createContainer(r *http.Request) (int, any) {
	var body struct {
		Image                string
		Entrypoint, Cmd, Env []string
		Labels               map[string]string
		HostConfig           struct {
			NetworkMode string
			Mounts      []dockerd.Mount
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return http.StatusBadRequest, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	name := r.URL.Query().Get("name")
	from, ok := d.images[body.Image]
	switch {
	case !ok:
		return http.StatusNotFound, "No such image: " + body.Image
	case d.containers[name] != nil:
		return http.StatusConflict, "Conflict. The container name \"/" + name + "\" is already in use"
	case !slices.Equal(body.Entrypoint, []string{"/firstboot"}) || !slices.Equal(body.Cmd, []string{stages.ProbeCommand}) ||
		!slices.Equal(body.HostConfig.Mounts, []dockerd.Mount{{Type: "bind", Source: d.w.file(firstbootPath), Target: "/firstboot", ReadOnly: true}}):
		return http.StatusBadRequest, fmt.Sprintf("%v %v: no such file or directory", body.Entrypoint, body.Cmd)
	}
	d.containers[name] = &container{
		ID: fakeID(name), Name: name, Image: body.Image, ImageID: from.ID, Env: body.Env, Labels: body.Labels, Network: body.HostConfig.NetworkMode,
	}
	return http.StatusCreated, map[string]string{"Id": fakeID(name)}
}

// startContainer connects the container to its network, or fails as Docker does
// if something is missing.
func (d *fakeDocker) startContainer(r *http.Request) (int, any) {
	networks := d.all()
	d.mu.Lock()
	defer d.mu.Unlock()
	c, status, message := d.find(r)
	if c == nil {
		return status, message
	}
	at := slices.IndexFunc(networks, func(n dockerd.Network) bool { return n.Name == c.Network })
	switch {
	case at < 0:
		return http.StatusNotFound, "network " + c.Network + " not found"
	case !d.w.pluginRuns():
		return http.StatusInternalServerError, "legacy plugin: connection refused"
	case networks[at].Scope == "local" && !d.w.adapterRuns():
		return http.StatusInternalServerError, "legacy plugin: connection reset by peer"
	case networks[at].Scope != "local" && d.sysctl("net/ipv6/conf/all/disable_ipv6") != "1":
		return http.StatusInternalServerError, "failed to set gateway: fe80::ecee:eeff:feee:eeee: permission denied"
	}
	address, err := d.w.cluster.join(c.Name, d.w.networkID(networks[at].ID, networks[at].Scope))
	if err != nil {
		return http.StatusForbidden, err
	}
	d.pids++
	c.Running, c.Address, c.Pid = true, address, 1000+d.pids
	proc := map[string]string{
		"dev":      "Inter-|   Receive\n face |bytes\n    lo: 0 0\n cali0: 0 0\n",
		"fib_trie": "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- " + address + "\n        /32 host LOCAL\n",
	}
	if d.onContainerStart != nil {
		d.onContainerStart(c, proc)
	}
	d.mu.Unlock()
	d.w.cluster.pauseAt("the probe container runs")
	d.mu.Lock()
	for name, text := range proc {
		putFile(d.w.t, d.w.root, "/proc/"+strconv.Itoa(c.Pid)+"/net/"+name, text, 0o644)
	}
	return http.StatusNoContent, ""
}

func (d *fakeDocker) sysctl(path string) string {
	data, _ := os.ReadFile(d.w.file("/proc/sys/" + path))
	return strings.TrimSpace(string(data))
}

func (d *fakeDocker) removeContainer(r *http.Request) (int, any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, status, message := d.find(r)
	if c == nil {
		return status, message
	}
	_ = os.RemoveAll(d.w.file("/proc/" + strconv.Itoa(c.Pid)))
	d.w.cluster.release(c.Name)
	delete(d.containers, c.Name)
	return http.StatusNoContent, ""
}

// ping gets a reply from a container that runs, if Felix runs and udevd does not
// change the container's MAC address.
func (d *fakeDocker) ping(to netip.Addr) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	node := d.containers["calico-node"]
	for _, c := range d.containers {
		if c.Running && c.Address == to.String() && !d.noReply[c.Address] && node != nil && node.Running && d.w.linkRead {
			return nil
		}
	}
	return errors.New("no reply within 1s")
}

func (d *fakeDocker) exec(r *http.Request) (int, any) {
	var body struct{ Cmd []string }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return http.StatusBadRequest, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c, status, message := d.find(r)
	if c == nil || !c.Running {
		return max(status, http.StatusConflict), message
	}
	d.execs = append(d.execs, d.w.node.execute(body.Cmd))
	return http.StatusCreated, map[string]string{"Id": strconv.Itoa(len(d.execs) - 1)}
}

func (d *fakeDocker) execution(r *http.Request) execution {
	d.mu.Lock()
	defer d.mu.Unlock()
	i, err := strconv.Atoi(r.PathValue("id"))
	if err != nil || i >= len(d.execs) {
		return execution{code: -1}
	}
	return d.execs[i]
}

func (d *fakeDocker) execStart(r *http.Request) (int, any) {
	return http.StatusOK, d.execution(r).output
}

func (d *fakeDocker) execState(r *http.Request) (int, any) {
	return http.StatusOK, map[string]any{"Running": false, "ExitCode": d.execution(r).code}
}
