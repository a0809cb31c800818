package cloudinit

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"

	"github.com/goccy/go-yaml"
	"github.com/kdomanski/iso9660"

	"github.com/projecteru2/firstboot/images"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
)

// seedLabel is the volume label by which NoCloud finds its seed.
const seedLabel = "cidata"

// Seed is the input of the NoCloud datasource, on a disk or in a directory.
type Seed struct {
	UserData      []byte
	InstanceID    string // if empty, derived from the other fields, so that the same seed is the same instance
	Hostname      string // if empty, the machine keeps its own
	NetworkConfig []byte // cloud-init's network configuration, version 1 or 2; may be nil
}

// File is one file of a seed.
type File struct {
	Name string
	Data []byte
}

// instanceID matches the IDs that cloud-init accepts and that are valid file names.
var instanceID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,126}$`)

// Files returns the seed's files, for a disk or an HTTP server.
func (s Seed) Files() ([]File, error) {
	meta, err := s.metaData()
	if err != nil {
		return nil, err
	}
	files := []File{{"user-data", s.UserData}, {"meta-data", meta}}
	if s.NetworkConfig == nil {
		return files, nil
	}
	if err := images.CheckYAML(s.NetworkConfig); err != nil {
		return nil, fmt.Errorf("cannot use the network configuration: %w", err)
	}
	var network map[string]any
	if err := yaml.Unmarshal(s.NetworkConfig, &network); err != nil {
		// The parser's error shows an excerpt, which may contain a secret.
		return nil, errors.New("cannot use the network configuration: not a YAML mapping")
	}
	version, inner := network["version"], network["network"]
	if version == nil && inner == nil {
		return nil, engine.WithHint(errors.New("cannot use the network configuration: no version"), "begin it with version: 2")
	}
	return append(files, File{"network-config", s.NetworkConfig}), nil
}

// metaData returns the meta-data file.
func (s Seed) metaData() ([]byte, error) {
	id := s.InstanceID
	if id == "" {
		digest := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s", s.UserData, s.Hostname, s.NetworkConfig))
		id = fmt.Sprintf("firstboot-%x", digest[:6])
	}
	if !instanceID.MatchString(id) {
		return nil, fmt.Errorf("cannot use the instance-id %q: only letters, digits, dots, dashes and underscores are allowed", id)
	}
	text := fmt.Sprintf("instance-id: %q\n", id)
	if s.Hostname != "" {
		if message, hint := config.CheckHostName(s.Hostname); message != "" {
			return nil, engine.WithHint(fmt.Errorf("cannot use the host name %q: %s", images.Truncate(s.Hostname), message), "%s", hint)
		}
		text += fmt.Sprintf("local-hostname: %q\n", s.Hostname)
	}
	return []byte(text), nil
}

// ISO returns the seed as an ISO 9660 image with the volume label cidata.
func (s Seed) ISO() ([]byte, error) {
	files, err := s.Files()
	if err != nil {
		return nil, err
	}
	w, err := iso9660.NewWriter()
	if err != nil {
		return nil, fmt.Errorf("cannot create the seed disk: %w", err)
	}
	for _, f := range files {
		if err := w.AddFile(bytes.NewReader(f.Data), f.Name); err != nil {
			return nil, errors.Join(fmt.Errorf("cannot write %s to the seed disk: %w", f.Name, err), w.Cleanup())
		}
	}
	var image bytes.Buffer
	err = w.WriteTo(&image, seedLabel)
	if err := errors.Join(err, w.Cleanup()); err != nil {
		return nil, fmt.Errorf("cannot create the seed disk: %w", err)
	}
	return image.Bytes(), nil
}
