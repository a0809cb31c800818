package adapter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"regexp"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/internal/text"
)

// Network is the network that the adapter serves, as stored in Path.
type Network struct {
	// ID is the value of the pool's annotation org.projectcalico.label.network.ID.
	ID string
	// CIDR is the pool's, IPv4 and masked.
	CIDR netip.Prefix
}

// document is the form of the file.
type document struct {
	Schema    int    `json:"schema"`
	NetworkID string `json:"networkID"`
	CIDR      string `json:"cidr"`
}

// maxFile bounds the file, in bytes.
const maxFile = 4 << 10

// networkID is the form of an annotation: Docker's ID of a global network, or text
// of firstboot with the name of the pool, which has at most 253 bytes (RFC 1123).
var networkID = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._-]{0,299}$`)

// NotSetUpError reports that the host has no network yet: Path does not exist.
type NotSetUpError struct{}

func (NotSetUpError) Error() string {
	return "the Calico network of this host is not set up yet (" + Path + " does not exist); run: firstboot status"
}

// Load reads the network of a host. If the file does not exist, the error is a
// NotSetUpError.
func Load(h *host.Host) (Network, error) {
	f, err := h.Open(Path)
	if errors.Is(err, fs.ErrNotExist) {
		return Network{}, NotSetUpError{}
	}
	if err != nil {
		return Network{}, fmt.Errorf("%w; run: firstboot status", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return Network{}, fmt.Errorf("cannot read %s: %w; run: firstboot status", Path, err)
	}
	network, err := parse(data)
	if err != nil {
		return Network{}, fmt.Errorf("%s is damaged: %s; run: firstboot run --force", Path, text.Line(err.Error()))
	}
	return network, nil
}

// parse decodes the file. It accepts only what Save writes.
func parse(data []byte) (Network, error) {
	if len(data) > maxFile {
		return Network{}, fmt.Errorf("larger than %d bytes", maxFile)
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	var d document
	if err := decoder.Decode(&d); err != nil {
		return Network{}, err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return Network{}, errors.New("more than one JSON value")
	}
	if d.Schema != state.Schema {
		return Network{}, fmt.Errorf("schema %d is not supported, only %d", d.Schema, state.Schema)
	}
	cidr, err := netip.ParsePrefix(d.CIDR)
	if err != nil {
		return Network{}, fmt.Errorf("cidr %q is not a network", d.CIDR)
	}
	network := Network{ID: d.NetworkID, CIDR: cidr}
	return network, network.validate()
}

func (n Network) validate() error {
	switch {
	case !networkID.MatchString(n.ID):
		return fmt.Errorf("%q is not a network ID", text.Line(n.ID))
	case !n.CIDR.IsValid() || !n.CIDR.Addr().Is4() || n.CIDR != n.CIDR.Masked():
		return fmt.Errorf("%q is not a masked IPv4 network", n.CIDR)
	}
	return nil
}

// Save writes the network of a host. The adapter uses it from the next call on.
func (n Network) Save(h *host.Host) error {
	if err := n.validate(); err != nil {
		return fmt.Errorf("cannot write %s: %w", Path, err)
	}
	data, err := json.Marshal(document{state.Schema, n.ID, n.CIDR.String()})
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", Path, err)
	}
	return h.WriteFile(Path, append(data, '\n'), 0o600)
}
