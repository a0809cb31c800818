package stages

import (
	"context"
	"errors"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/minions"
	"github.com/projecteru2/firstboot/internal/report"
)

// architecture compares a package that is already on this machine with the
// machine. A fetched package is compared before its installation.
func (s preflight) architecture(context.Context, dockerState) ([]finding, error) {
	want := minions.Architecture()
	if want == "" {
		return newFinding("architecture", "machine", runtime.GOARCH, "an architecture that Calico is built for", "use an amd64 or arm64 machine"), nil
	}
	path, ok := s.localArtifact(minionsName)
	if !ok {
		return nil, nil
	}
	p, err := artifact.ReadPackage(path)
	if err != nil || p.Arch == "noarch" || p.Arch == want {
		return nil, nil //nolint:nilerr // the minions stage reports what is wrong with a package
	}
	return newFinding("architecture", "package "+p.String(), "for "+p.Arch, "for "+want, "set minions.url to the package for this architecture, or put that package into the bundle"), nil
}

// hostLabel matches one label of a host name that Calico accepts as a node's
// name.
var hostLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// hostName checks that calicoctl and the plugin use the same name: calicoctl
// converts it to lower case, the plugin does not.
func (s preflight) hostName(context.Context, dockerState) ([]finding, error) {
	name := s.Host.Hostname()
	refuse := func(expected, fix string) []finding {
		return newFinding("host-name", "host name", orNone(name), expected, fix)
	}
	if want := s.Config.Host.Name; want != "" && want != name {
		return refuse("host.name "+want, "hostnamectl set-hostname "+want+", or remove host.name from the configuration"), nil
	}
	if name == "" || config.IsLocalHostName(name) || name == "(none)" {
		return refuse("a unique name", "hostnamectl set-hostname NAME"), nil
	}
	if name != strings.ToLower(name) {
		return refuse("lower case, because calicoctl converts the name and Docker's plugin does not", "hostnamectl set-hostname "+strings.ToLower(name)), nil
	}
	for part := range strings.SplitSeq(name, ".") {
		if !hostLabel.MatchString(part) {
			return refuse("letters, digits and hyphens (RFC 1123)", "hostnamectl set-hostname NAME"), nil
		}
	}
	return nil, nil
}

// clock waits while the clock shows a time before this binary was built.
// Certificates, leases and the times in the marker depend on it.
func (s preflight) clock(context.Context, dockerState) ([]finding, error) {
	now := time.Now()
	if s.Built.IsZero() || !now.Before(s.Built) {
		return nil, nil
	}
	actual := "the clock shows " + now.UTC().Format(time.RFC3339)
	expected := "after " + s.Built.UTC().Format(time.RFC3339) + ", when this firstboot was built"
	if s.ignores("clock") {
		return newWarning("clock", "clock", actual, expected, "set the clock"), nil
	}
	return nil, &engine.Wait{For: "the clock to be set (" + expected + ")", Err: errors.New(actual)}
}

// Free space that a host needs, in bytes. freeForFiles is for firstboot's state,
// its cache and calicoctl (43–70 MB); freeForImage is for an image of 85–230 MB
// and its unpacked layers.
const (
	freeForFiles = 130e6
	freeForImage = 750e6
)

// diskSpace checks the free space of the file systems to which the run writes.
func (s preflight) diskSpace(ctx context.Context, d dockerState) ([]finding, error) {
	var found []finding
	want := func(path string, need uint64) {
		free, err := s.Host.FreeSpace(path)
		if err == nil && free < need {
			found = append(found, newFinding("disk-space", path, report.Bytes(int64(free))+" free",
				"at least "+report.Bytes(int64(need)), "free up space, or use a larger disk")...)
		}
	}
	if !s.isPresent(ctx, calicoctlName) {
		want("/usr/bin", freeForFiles)
		want("/var/lib/firstboot", freeForFiles)
	}
	if !s.hasImage(ctx, d) {
		want(dockerRoot(d), freeForImage)
	}
	return found, nil
}

// dockerRoot returns the directory in which Docker stores its images.
func dockerRoot(d dockerState) string {
	if d.info.DockerRootDir != "" {
		return d.info.DockerRootDir
	}
	return dockerd.DefaultDataRoot
}

// hasImage reports whether Docker has the node image, also if Docker does not
// run. It returns true if Docker does not answer.
func (s preflight) hasImage(ctx context.Context, d dockerState) bool {
	if d.unresponsive {
		return true
	}
	if d.active {
		id, err := s.imageID(ctx)
		return err == nil && id != ""
	}
	return dockerd.HasStoredImage(s.Host, dockerRoot(d), s.Config.Node.Image)
}
