package pxe

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/projecteru2/firstboot/images"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
)

// Host is a host with its own values, identified by MAC address or UUID. The zero
// Host stands for all hosts that are not listed.
type Host struct {
	MAC    string            `yaml:"mac"`    // of the network interface that it boots from
	UUID   string            `yaml:"uuid"`   // as reported by the firmware (DMI)
	Name   string            `yaml:"name"`   // host name
	Values map[string]string `yaml:"values"` // configuration keys, such as host.address
	Args   []string          `yaml:"args"`   // kernel arguments
}

// maxHosts limits a list: all hosts share one directory, with a few files per host.
const maxHosts = 10000

// ParseHosts reads a list of hosts: {hosts: [{mac|uuid, name, values, args}]}.
func ParseHosts(data []byte) ([]Host, error) {
	var file struct {
		Hosts []Host `yaml:"hosts"`
	}
	if err := images.CheckYAML(data); err != nil {
		return nil, fmt.Errorf("cannot read the list of hosts: %w", err)
	}
	if err := yaml.UnmarshalWithOptions(data, &file, yaml.Strict()); err != nil {
		var at yaml.Error
		if errors.As(err, &at) && at.GetToken() != nil {
			p := at.GetToken().Position
			return nil, fmt.Errorf("cannot read the list of hosts: line %d, column %d: %s", p.Line, p.Column, images.Truncate(at.GetMessage()))
		}
		return nil, errors.New("cannot read the list of hosts: not YAML of the form hosts: [{mac: …, name: …}]")
	}
	if len(file.Hosts) > maxHosts {
		return nil, fmt.Errorf("cannot read the list of hosts: it has %d hosts, the limit is %d", len(file.Hosts), maxHosts)
	}
	seen := map[string]bool{}
	for i := range file.Hosts {
		h := &file.Hosts[i]
		if err := h.normalise(); err != nil {
			return nil, fmt.Errorf("cannot read the list of hosts: host %d: %w", i+1, err)
		}
		for _, key := range []string{h.id(), "name " + h.Name} {
			if seen[key] && key != "name " {
				return nil, fmt.Errorf("cannot read the list of hosts: host %d: duplicate %s", i+1, strings.TrimPrefix(key, prefix))
			}
			seen[key] = true
		}
	}
	return file.Hosts, nil
}

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// normalise writes MAC address and UUID like iPXE and matchbox, and checks the other
// fields.
func (h *Host) normalise() error {
	if (h.MAC == "") == (h.UUID == "") {
		return engine.WithHint(errors.New("needs either a mac or a uuid"), "mac: 52:54:00:12:34:56")
	}
	if h.MAC != "" {
		mac, err := net.ParseMAC(h.MAC)
		if err != nil || len(mac) != 6 {
			return fmt.Errorf("mac %q is not a MAC address", images.Truncate(h.MAC))
		}
		h.MAC = mac.String()
	}
	h.UUID = strings.ToLower(h.UUID)
	if h.UUID != "" && !uuidForm.MatchString(h.UUID) {
		return fmt.Errorf("uuid %q is not a UUID", images.Truncate(h.UUID))
	}
	for _, arg := range append(h.args(), h.Args...) {
		if err := checkArg(arg); err != nil {
			return err
		}
	}
	for _, key := range slices.Sorted(maps.Keys(h.Values)) {
		switch {
		case strings.Contains(key, "environment"):
			return engine.WithHint(fmt.Errorf("%s may be a secret, and every user can read the kernel command line", key), "set it in the configuration")
		case key == "host.name", key == "config", strings.HasPrefix(key, "config."), strings.HasPrefix(key, "install."):
			return fmt.Errorf("cannot set %s in the list of hosts", images.Truncate(key))
		}
	}
	return nil
}

// args returns the kernel arguments that set the host's values.
func (h Host) args() []string {
	var args []string
	if h.Name != "" {
		args = append(args, "systemd.hostname="+h.Name, "firstboot.host.name="+h.Name)
	}
	for _, key := range slices.Sorted(maps.Keys(h.Values)) {
		args = append(args, "firstboot."+key+"="+h.Values[key])
	}
	return args
}

// effective returns the configuration that the host will load.
func (h Host) effective(ctx context.Context, loaded *config.Loaded) (*config.Loaded, error) {
	if len(h.args()) == 0 {
		return loaded, nil
	}
	root, err := os.MkdirTemp("", "firstboot-pxe")
	if err != nil {
		return nil, fmt.Errorf("cannot check the values of %s: %w", h.label(), err)
	}
	defer os.RemoveAll(root)
	path := filepath.Join(root, config.MainFile)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, loaded.Explicit(), 0o600)); err != nil {
		return nil, fmt.Errorf("cannot check the values of %s: %w", h.label(), err)
	}
	effective, err := config.Load(ctx, config.Options{Root: root, Cmdline: strings.Join(h.args(), " ")})
	if err != nil {
		return nil, fmt.Errorf("cannot use the values of %s: %w", h.label(), err)
	}
	return effective, nil
}

// prefix distinguishes firstboot's files from others in the same directory.
const prefix = "firstboot-"

// id returns the base name of the host's files.
func (h Host) id() string {
	switch {
	case h.MAC != "":
		return prefix + "mac-" + strings.ReplaceAll(h.MAC, ":", "-")
	case h.UUID != "":
		return prefix + "uuid-" + h.UUID
	}
	return prefix + "default"
}

// label returns a name of the host for people.
func (h Host) label() string {
	switch {
	case h.Name != "":
		return h.Name
	case h.MAC != "":
		return h.MAC
	case h.UUID != "":
		return h.UUID
	}
	return "every other host"
}

// script returns the path of the host's iPXE script. boot.ipxe computes the same path.
func (h Host) script() string { return "hosts/" + h.id() + ".ipxe" }
