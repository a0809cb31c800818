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
	"github.com/projecteru2/firstboot/internal/engine"
)

// seedLabel is the volume name by which NoCloud finds its seed.
const seedLabel = "cidata"

// Seed is what the NoCloud datasource reads from a disk or a folder.
type Seed struct {
	UserData      []byte
	InstanceID    string // empty: made from the other fields, so that the same seed is the same instance
	Hostname      string // empty: the machine's stays
	NetworkConfig []byte // cloud-init's network configuration, version 1 or 2; nil: none
}

// File is one file of a seed.
type File struct {
	Name string
	Data []byte
}

// instanceID is what cloud-init accepts as one and a file system can hold.
var instanceID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,126}$`)

// hostname is a host name (RFC 1123), lower case as Calico wants it.
var hostname = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)

// Files are the seed's files, for a disk or for http.
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
		// The parser's own text would show an excerpt, which may hold a secret.
		return nil, errors.New("cannot use the network configuration: not a YAML mapping")
	}
	version, inner := network["version"], network["network"]
	if version == nil && inner == nil {
		return nil, engine.WithHint(errors.New("cannot use the network configuration: it has no version"), "begin it with version: 2")
	}
	return append(files, File{"network-config", s.NetworkConfig}), nil
}

func (s Seed) metaData() ([]byte, error) {
	id := s.InstanceID
	if id == "" {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s", s.UserData, s.Hostname, s.NetworkConfig))
		id = fmt.Sprintf("firstboot-%x", sum[:6])
	}
	if !instanceID.MatchString(id) {
		return nil, fmt.Errorf("cannot use the instance-id %q: letters, digits, dots, dashes and underscores make one", id)
	}
	text := fmt.Sprintf("instance-id: %q\n", id)
	if s.Hostname != "" {
		if !hostname.MatchString(s.Hostname) {
			return nil, fmt.Errorf("cannot use the host name %q: lower-case letters, digits and dashes make one", s.Hostname)
		}
		text += fmt.Sprintf("local-hostname: %q\n", s.Hostname)
	}
	return []byte(text), nil
}

// ISO is the seed as an ISO 9660 image with the volume name cidata.
func (s Seed) ISO() ([]byte, error) {
	files, err := s.Files()
	if err != nil {
		return nil, err
	}
	w, err := iso9660.NewWriter()
	if err != nil {
		return nil, fmt.Errorf("cannot make a seed disk: %w", err)
	}
	for _, f := range files {
		if err := w.AddFile(bytes.NewReader(f.Data), f.Name); err != nil {
			return nil, errors.Join(fmt.Errorf("cannot put %s on the seed disk: %w", f.Name, err), w.Cleanup())
		}
	}
	var image bytes.Buffer
	err = w.WriteTo(&image, seedLabel)
	if err := errors.Join(err, w.Cleanup()); err != nil {
		return nil, fmt.Errorf("cannot make a seed disk: %w", err)
	}
	return image.Bytes(), nil
}
