package stages_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/google/rpmpack"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/minions"
	"github.com/projecteru2/firstboot/internal/tunnel"
	"github.com/projecteru2/firstboot/units"
)

const (
	minionsProgram = "/usr/bin/eru-minions"
	minionsConf    = "/etc/eru/minions.conf"
	minionsUnit    = `[Unit]
After=network-online.target
[Service]
Type=simple
Restart=on-failure
EnvironmentFile=-/etc/eru/minions.conf
ExecStart=/usr/bin/eru-minions
[Install]
WantedBy=multi-user.target
`
)

// rpm does what rpm 4.18 does.
func (w *fakeSystem) rpm(args []string) CommandResult {
	w.rpmMu.Lock()
	defer w.rpmMu.Unlock()
	if w.realRPM != nil {
		return w.realRPM(args)
	}
	switch args[0] {
	case "--eval": // %_dbpath, which is in root's home on Debian
		return CommandResult{Stdout: "/root/.rpmdb\n"}
	case "-q":
		w.makeDatabase()
		if w.installed == "" {
			return CommandResult{Exit: 1, Stdout: "package eru-minions is not installed\n"}
		}
		return CommandResult{Stdout: w.installed + " " + w.sigMD5 + "\n"}
	case "-qp":
		name, digest, err := w.readRPM(args[len(args)-1])
		if err != nil {
			return CommandResult{Exit: 1, Stderr: err.Error()}
		}
		return CommandResult{Stdout: name + " " + digest + "\n"}
	case "-V":
		return w.rpmVerify(slices.Contains(args, "--nofiledigest"))
	case "-ql":
		if w.installed == "" {
			return CommandResult{Exit: 1, Stdout: "package eru-minions is not installed\n"}
		}
		return CommandResult{Stdout: strings.Join(slices.Sorted(maps.Keys(packaged(w.installed))), "\n") + "\n"}
	case "-U":
		return w.rpmInstall(args[1:])
	}
	return CommandResult{Exit: 1, Stderr: "the fake rpm does not support " + strings.Join(args, " ")}
}

// makeDatabase creates the database, as rpm does even for a query.
func (w *fakeSystem) makeDatabase() {
	putFile(w.t, w.root, "/root/.rpmdb/rpmdb.sqlite", "", 0o644)
}

// rpmVerify lists changed files. The configuration file is listed like any other,
// because upstream's package does not mark it as one.
func (w *fakeSystem) rpmVerify(sizes bool) CommandResult {
	if w.rpmVerifies != nil {
		return *w.rpmVerifies
	}
	var out string
	for path, want := range packaged(w.installed) {
		have, err := os.ReadFile(w.file(path))
		switch {
		case err != nil:
			out += "missing     " + path + "\n"
		case string(have) != want && (!sizes || len(have) != len(want)):
			out += "S.5......    " + path + "\n"
		}
	}
	if out != "" {
		return CommandResult{Exit: 1, Stdout: out}
	}
	return CommandResult{}
}

func packaged(name string) map[string]string {
	return map[string]string{
		minionsProgram: "#!/bin/sh\n# " + name + "\n", minionsConf: "ETCD_ENDPOINTS=http://127.0.0.1:2379\n",
		units.Dir + "/" + units.Minions: minionsUnit,
	}
}

func (w *fakeSystem) rpmInstall(args []string) CommandResult {
	if w.rpmFails != "" {
		return CommandResult{Exit: 1, Stderr: w.rpmFails}
	}
	if !slices.Contains(args, "--nodeps") && fileExists(w.file("/var/lib/dpkg/status")) {
		return CommandResult{Exit: 1, Stderr: "error: Failed dependencies:\n\t/bin/sh is needed by eru-minions"}
	}
	name, digest, err := w.readRPM(args[len(args)-1])
	if err != nil {
		return CommandResult{Exit: 1, Stderr: err.Error()}
	}
	if name == w.installed && !slices.Contains(args, "--replacepkgs") {
		return CommandResult{Exit: 2, Stderr: "package " + name + " is already installed"}
	}
	w.rpms++
	partial := fmt.Sprintf("%s;%08x", minionsProgram, w.rpms) // the real rpm uses the time in seconds
	putFile(w.t, w.root, partial, "#!/b", 0o644)
	if w.cluster.pauseAt("rpm has unpacked a part") {
		return CommandResult{Exit: -1}
	}
	if err := os.Remove(w.file(partial)); err != nil {
		return CommandResult{Exit: 1, Stderr: err.Error()}
	}
	for path, text := range packaged(name) {
		putFile(w.t, w.root, path, text, 0o644)
	}
	if w.cluster.pauseAt("rpm has unpacked") {
		return CommandResult{Exit: -1}
	}
	w.makeDatabase()
	w.installed, w.sigMD5 = name, digest
	if w.cluster.pauseAt("rpm has recorded the package") {
		return CommandResult{Exit: -1}
	}
	// The package's scriptlet.
	if err := w.systemd.job("daemon-reload", ""); err != nil {
		return CommandResult{Exit: 1, Stderr: err.Error()}
	}
	return CommandResult{}
}

// readRPM returns a package's NAME-VERSION-RELEASE and a digest of its bytes. A
// package without a digest is printed as rpm does.
func (w *fakeSystem) readRPM(path string) (name, digest string, err error) {
	p, err := artifact.ReadPackage(path)
	if err != nil {
		return "", "", err
	}
	if digest = digestOf(path); w.rpmWithoutDigest {
		digest = "(none)"
	}
	return fmt.Sprintf("%s-%s-%s", p.Name, p.Version, p.Release), digest, nil
}

// beginPlugin starts eru-minions. If its configuration names the cluster's etcd,
// it serves both sockets, which remain when it stops.
func (w *fakeSystem) beginPlugin(unit string) error {
	conf, err := os.ReadFile(w.file(minionsConf))
	endpoint := w.cluster.endpoint
	if strings.HasPrefix(endpoint, "https:") && w.systemd.unit(units.EtcdTunnel).active == "active" {
		endpoint = tunnel.Endpoint
	}
	if err != nil || !strings.HasPrefix(string(conf), "ETCD_ENDPOINTS="+endpoint+"\n") {
		return errors.New("etcd is unreachable")
	}
	local := strings.Contains(unit, "CALICO_CNM=/run/firstboot/eru-minions")
	if local {
		if err := os.MkdirAll(w.file("/run/firstboot"), 0o755); err != nil {
			return err
		}
	}
	for i, socket := range minions.Sockets(local) {
		if err := os.Remove(w.file(socket.Path)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		l := listen(w.t, w.file(socket.Path))
		driver := []string{"NetworkDriver", "IpamDriver"}[i]
		go func() { _ = http.Serve(l, http.HandlerFunc(w.activate(driver))) }() //nolint:gosec // only in a test
	}
	w.conf = string(conf)
	w.setPlugin(true)
	return nil
}

func (w *fakeSystem) activate(driver string) func(http.ResponseWriter, *http.Request) {
	return func(rw http.ResponseWriter, r *http.Request) {
		if !w.pluginRuns() {
			panic(http.ErrAbortHandler) // no process listens on the socket
		}
		if r.URL.Path == "/NetworkDriver.DeleteEndpoint" && driver == "NetworkDriver" {
			w.deleteEndpoint(rw, r)
			return
		}
		_ = json.NewEncoder(rw).Encode(map[string][]string{"Implements": {driver}})
	}
}

// deleteEndpoint deletes the WorkloadEndpoint of this host with Docker's ID, as
// the plugin does. Its name and namespace contain the host name.
func (w *fakeSystem) deleteEndpoint(rw http.ResponseWriter, r *http.Request) {
	var body struct{ EndpointID string }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || w.deleteFails != "" {
		rw.WriteHeader(http.StatusInternalServerError)
		_ = json.NewEncoder(rw).Encode(map[string]string{"Err": fmt.Sprint(w.deleteFails, err)})
		return
	}
	ctx, cancel := etcdContext()
	defer cancel()
	deleted, err := w.cluster.etcd.Delete(ctx, calicoKeys+"workloadendpoints/"+w.name+"/"+endpointName(w.name, body.EndpointID))
	if err == nil && deleted.Deleted == 0 {
		err = errors.New("resource does not exist: WorkloadEndpoint(" + w.name + "/" + endpointName(w.name, body.EndpointID) + ") with error: <nil>")
	}
	if err != nil {
		rw.WriteHeader(http.StatusInternalServerError)
		_ = json.NewEncoder(rw).Encode(map[string]string{"Err": err.Error()})
		return
	}
	_, _ = rw.Write([]byte("{}\n"))
}

func endpointName(host, id string) string { return host + "-libnetwork-libnetwork-" + id }

func (w *fakeSystem) endPlugin() { w.setPlugin(false) }

func (w *fakeSystem) setPlugin(runs bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.plugin = runs
}

func (w *fakeSystem) pluginRuns() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.plugin
}

// minionsRPM returns the plugin's package. arch "" means this machine's.
func minionsRPM(t testing.TB, arch string) string {
	t.Helper()
	if arch == "" {
		arch = map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	}
	return packageFile(t, "eru-minions", "1.2.3", arch)
}

func packageFile(t testing.TB, name, version, arch string) string {
	t.Helper()
	return string(pack(t, name, version, arch, nil))
}

// signedRPM returns the plugin's package, signed with key.
func signedRPM(t testing.TB, key *openpgp.Entity) []byte {
	t.Helper()
	return pack(t, "eru-minions", "1.2.3", "noarch", func(data []byte) ([]byte, error) {
		var signature bytes.Buffer
		err := openpgp.DetachSign(&signature, key, bytes.NewReader(data), nil)
		return signature.Bytes(), err
	})
}

func pack(t testing.TB, name, version, arch string, sign func([]byte) ([]byte, error)) []byte {
	t.Helper()
	r, err := rpmpack.NewRPM(rpmpack.RPMMetaData{Name: name, Version: version, Release: "1", Arch: arch, OS: "linux", Compressor: "gzip"})
	if err != nil {
		t.Fatal(err)
	}
	if sign != nil {
		r.SetPGPSigner(sign)
	}
	r.AddFile(rpmpack.RPMFile{Name: minionsProgram, Body: []byte("#!/bin/sh\n"), Mode: 0o755, Owner: "root", Group: "root"})
	var out bytes.Buffer
	if err := r.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
