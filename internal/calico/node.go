package calico

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/internal/text"
	"github.com/projecteru2/firstboot/units"
)

const (
	// NodeContainer is the name of the calico-node container, as calicoctl sets it.
	NodeContainer = "calico-node"
	// NodenamePath is the file in which calico-node keeps the name of its host.
	NodenamePath = "/var/lib/calico/nodename"
)

// Node is what the calico-node of this host is started with.
type Node struct {
	Config  *config.Config
	Name    string
	Address netip.Addr
}

// variables returns the variables that calicoctl v3.23.0 sets in the container,
// and FELIX_HEALTHENABLED: without Felix's health port the readiness command fails
// on a healthy node.
func (n Node) variables() map[string]string {
	variables := map[string]string{
		"NODENAME":                  n.Name,
		"IP":                        n.Address.String(),
		"AS":                        fmt.Sprint(n.Config.Node.ASNumber),
		"CALICO_NETWORKING_BACKEND": "bird",
		"NO_DEFAULT_POOLS":          "true",
		"ETCD_ENDPOINTS":            strings.Join(n.Config.Etcd.Endpoints, ","),
		"ETCD_DISCOVERY_SRV":        "",
		"FELIX_HEALTHENABLED":       "true",
	}
	for _, f := range n.certificates() {
		variables[f.variable] = f.inside
	}
	return variables
}

// certificate is a file for etcd that the container needs.
type certificate struct{ variable, path, inside string }

// certificates returns the configured files, at the paths where calicoctl v3.23.0
// mounts them. A file that is mounted by itself stays the old one when it is
// replaced: calico-node must then be restarted.
func (n Node) certificates() []certificate {
	etcd := n.Config.Etcd
	all := []certificate{
		{"ETCD_CA_CERT_FILE", etcd.CAFile, "/etc/calico/certs/ca_cert.crt"},
		{"ETCD_KEY_FILE", etcd.KeyFile, "/etc/calico/certs/key.pem"},
		{"ETCD_CERT_FILE", etcd.CertFile, "/etc/calico/certs/cert.crt"},
	}
	return slices.DeleteFunc(all, func(c certificate) bool { return c.path == "" || !etcd.TLS() })
}

// Certificates returns the files for etcd that the container has mounted.
func (n Node) Certificates() []string {
	var paths []string
	for _, f := range n.certificates() {
		paths = append(paths, f.path)
	}
	return paths
}

// Environment returns all variables of the container: those of Arguments and
// node.environment, whose values may be secret.
func (n Node) Environment() map[string]string {
	all := n.variables()
	for key, value := range n.Config.Node.Environment {
		all[key] = value.Reveal()
	}
	return all
}

// Arguments returns the arguments of `docker run` for the calico-node container:
// those that calicoctl v3.23.0 prints for `node run --init-system
// --no-default-ippools --dryrun`. Every user can read them, so node.environment
// is passed in a file. (The configuration refuses variables that the arguments
// set.)
func (n Node) Arguments() []string {
	env := n.variables()
	args := []string{"--net=host", "--privileged", "--name=" + NodeContainer, "--rm"}
	for _, key := range slices.Sorted(maps.Keys(env)) {
		args = append(args, "-e", key+"="+env[key])
	}
	if len(n.Config.Node.Environment) > 0 {
		args = append(args, "--env-file="+units.CalicoNodeEnv)
	}
	for _, volume := range []string{
		"/var/log/calico:/var/log/calico", "/var/run/calico:/var/run/calico", "/var/lib/calico:/var/lib/calico",
		"/lib/modules:/lib/modules", "/run:/run",
	} {
		args = append(args, "-v", volume)
	}
	for _, f := range n.certificates() {
		args = append(args, "-v", f.path+":"+f.inside)
	}
	return append(args, n.Config.Node.Image)
}

// Files returns the files that the calico-node of h starts from: its unit and, if
// node.environment is not empty, its environment file.
func (n Node) Files(h *host.Host) ([]host.File, error) {
	program, ok := h.LookPath("docker")
	if !ok {
		program = "/usr/bin/docker"
	}
	unit, err := units.NodeUnit(program, NodeContainer, state.ThisMachine(h), n.Arguments())
	if err != nil {
		return nil, err
	}
	list := []host.File{{Path: unit.Path, Data: unit.Data, Mode: 0o644}}
	if len(n.Config.Node.Environment) == 0 {
		return list, nil
	}
	environment, err := n.environmentFile()
	return append([]host.File{environment}, list...), err
}

// maxEnvironmentLine bounds a line that docker reads from an --env-file, in
// bytes (bufio.MaxScanTokenSize).
const maxEnvironmentLine = 64<<10 - 1

// environmentFile returns node.environment as docker's --env-file, whose values
// are not quoted. The configuration accepts no line breaks in them.
func (n Node) environmentFile() (host.File, error) {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(n.Config.Node.Environment)) {
		line := key + "=" + n.Config.Node.Environment[key].Reveal() + "\n"
		if len(line) > maxEnvironmentLine {
			return host.File{}, engine.WithHint(fmt.Errorf("cannot pass node.environment.%s to docker: it has more than %d bytes", key, maxEnvironmentLine), "use a shorter value")
		}
		b.WriteString(line)
	}
	return host.File{Path: units.CalicoNodeEnv, Data: []byte(b.String()), Mode: 0o600}, nil
}

// execTimeout bounds one command in the container. Measured: 6 s for the health
// command on an emulated machine.
const execTimeout = 60 * time.Second

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return text.Line(lines[len(lines)-1])
}
