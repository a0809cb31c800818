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

// Host is one with values of its own, recognised by its MAC or its UUID; the
// zero Host stands for all others.
type Host struct {
	MAC    string            `yaml:"mac"`    // of the NIC that it boots from
	UUID   string            `yaml:"uuid"`   // as its firmware tells it (DMI)
	Name   string            `yaml:"name"`   // its host name
	Values map[string]string `yaml:"values"` // firstboot's keys, such as host.address
	Args   []string          `yaml:"args"`   // kernel arguments
}

// maxHosts bounds a list: one folder, a few files a host.
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
		return nil, fmt.Errorf("cannot read the list of hosts: %d of them, at most %d are possible", len(file.Hosts), maxHosts)
	}
	seen := map[string]bool{}
	for i := range file.Hosts {
		h := &file.Hosts[i]
		if err := h.normalise(); err != nil {
			return nil, fmt.Errorf("cannot read the list of hosts: host %d: %w", i+1, err)
		}
		for _, key := range []string{h.id(), "name " + h.Name} {
			if seen[key] && key != "name " {
				return nil, fmt.Errorf("cannot read the list of hosts: host %d: %s is there twice", i+1, strings.TrimPrefix(key, prefix))
			}
			seen[key] = true
		}
	}
	return file.Hosts, nil
}

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// normalise writes MAC and UUID as iPXE and matchbox do, and checks the rest.
func (h *Host) normalise() error {
	if (h.MAC == "") == (h.UUID == "") {
		return engine.WithHint(errors.New("it needs a mac or a uuid, and not both"), "mac: 52:54:00:12:34:56")
	}
	if h.MAC != "" {
		mac, err := net.ParseMAC(h.MAC)
		if err != nil || len(mac) != 6 {
			return fmt.Errorf("mac %q is none", images.Truncate(h.MAC))
		}
		h.MAC = mac.String()
	}
	h.UUID = strings.ToLower(h.UUID)
	if h.UUID != "" && !uuidForm.MatchString(h.UUID) {
		return fmt.Errorf("uuid %q is none", images.Truncate(h.UUID))
	}
	for _, arg := range append(h.args(), h.Args...) {
		if err := checkArg(arg); err != nil {
			return err
		}
	}
	for _, key := range slices.Sorted(maps.Keys(h.Values)) {
		switch {
		case strings.Contains(key, "environment"):
			return engine.WithHint(fmt.Errorf("%s may be a secret, and every user can read the kernel's command line", key), "put it into the configuration")
		case key == "host.name", key == "config", strings.HasPrefix(key, "config."), strings.HasPrefix(key, "install."):
			return fmt.Errorf("%s cannot be given here", images.Truncate(key))
		}
	}
	return nil
}

// args are the kernel arguments that carry the host's values.
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

// effective is the configuration as the host will see it.
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
	own, err := config.Load(ctx, config.Options{Root: root, Cmdline: strings.Join(h.args(), " ")})
	if err != nil {
		return nil, fmt.Errorf("cannot use the values of %s: %w", h.label(), err)
	}
	return own, nil
}

// prefix marks what firstboot made among other people's files.
const prefix = "firstboot-"

// id names the host's files.
func (h Host) id() string {
	switch {
	case h.MAC != "":
		return prefix + "mac-" + strings.ReplaceAll(h.MAC, ":", "-")
	case h.UUID != "":
		return prefix + "uuid-" + h.UUID
	}
	return prefix + "default"
}

// label is the host for people.
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

// script is the path of its iPXE script. boot.ipxe puts the name together.
func (h Host) script() string { return "hosts/" + h.id() + ".ipxe" }
