package parts

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/artifact"
)

// versionTimeout limits calicoctl version, which normally takes 0.1 s.
const versionTimeout = 30 * time.Second

// checkSupplied checks the operator's files, so that an unusable file is reported
// at once and not by a machine minutes later.
func checkSupplied(ctx context.Context, o Options) (Parts, error) {
	var p Parts
	var err error
	if o.Calicoctl != "" {
		if p.Calicoctl, err = suppliedFile("calicoctl", o.Calicoctl); err != nil {
			return p, err
		}
		if p.CalicoctlVersion, err = calicoctlVersion(ctx, p.Calicoctl); err != nil {
			return p, err
		}
	}
	if o.NodeImage != "" {
		if p.NodeImage, err = suppliedFile("node image", o.NodeImage); err != nil {
			return p, err
		}
		if p.NodeImageName, err = imageName(p.NodeImage); err != nil {
			return p, err
		}
	}
	if o.MinionsRPM != "" {
		if p.MinionsRPM, err = suppliedFile("eru-minions RPM", o.MinionsRPM); err != nil {
			return p, err
		}
		if err := checkRPM(p.MinionsRPM); err != nil {
			return p, err
		}
	}
	return p, nil
}

// suppliedFile returns the absolute path of a readable file.
func suppliedFile(what, path string) (string, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("cannot use the %s %s: %w", what, path, err)
	}
	f, err := os.Open(absolute)
	if err != nil {
		return "", fmt.Errorf("cannot use the %s: %w", what, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("cannot use the %s: %w", what, err)
	}
	if !info.Mode().IsRegular() || info.Size() == 0 {
		return "", fmt.Errorf("cannot use the %s %s: it is empty or not a regular file", what, absolute)
	}
	return absolute, nil
}

var clientVersion = regexp.MustCompile(`(?m)^Client Version:\s+(\S+)`)

// calicoctlVersion returns the version of a calicoctl. It uses an invalid
// configuration, so that calicoctl prints its own version and exits. With a valid
// one it would connect to etcd.
func calicoctlVersion(ctx context.Context, path string) (string, error) {
	limited, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	out, err := run(limited, process{name: path, args: []string{"version", "--config=/dev/null"}, env: []string{"DATASTORE_TYPE=none"}})
	if m := clientVersion.FindStringSubmatch(out); m != nil {
		return m[1], nil
	}
	if err == nil {
		err = fmt.Errorf("it printed no client version: %.200q", out)
	}
	return "", fmt.Errorf("cannot use the calicoctl %s: %w (it must be an executable calicoctl for this machine)", path, err)
}

// imageName selects the tag to use from those in the archive.
func imageName(path string) (string, error) {
	image, err := artifact.ReadImageArchive(path)
	if err != nil {
		return "", err
	}
	if len(image.Tags) == 1 {
		return image.Tags[0], nil
	}
	for _, tag := range image.Tags {
		if strings.Contains(tag, "calico/node:") {
			return tag, nil
		}
	}
	return "", fmt.Errorf("cannot use the node image %s: it has the tags %q, want exactly one, or one of calico/node (docker save calico/node:%s)", path, image.Tags, CalicoVersion)
}

func checkRPM(path string) error {
	p, err := artifact.ReadPackage(path)
	if err != nil {
		return err
	}
	if p.Name != minionsName {
		return fmt.Errorf("cannot use the RPM %s: it is the package %s, want %s", path, p, minionsName)
	}
	return nil
}
