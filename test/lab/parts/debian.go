package parts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/projecteru2/firstboot/test/lab/cache"
)

// imagePackages lists the Debian packages with the programs of the node image
// and the libraries that these need. The build fails if a needed library is in
// none of them.
func imagePackages() []string {
	return []string{
		"bird",           // bird, bird6, birdc
		"runit",          // runsvdir, runsv, sv, svlogd: supervise the image's services
		"iptables",       // both multi-call binaries and their plugins
		"ipset",          // Felix's IP sets
		"conntrack",      // Felix removes connections of deleted endpoints
		"iproute2",       // ip, tc
		"bash",           // the log services of the image are bash scripts
		"busybox-static", // all other programs that the scripts call
		"libc6", "libtinfo6", "libreadline8",
		"libmnl0", "libnftnl11", "libxtables12", "libip4tc2", "libip6tc2", "libipset13",
		"libnfnetlink0", "libnetfilter-conntrack3",
		"libbpf1", "libelf1", "libcap2", "libbsd0", "libmd0", "zlib1g",
	}
}

// debs are Debian packages in the versions that apt would download now.
type debs struct {
	names []string // as requested
	files []string // NAME_VERSION_ARCH.deb and its digest
}

// key returns the packages' part of the image's cache key. It changes with
// every version.
func (d debs) key() string { return cache.Key(d.files...) }

// debianPackages queries apt for the versions that it would download. On a new
// machine without package lists, it downloads the lists first.
func debianPackages(ctx context.Context, names []string) (debs, error) {
	d, err := candidates(ctx, names)
	if err == nil {
		return d, nil
	}
	if updateErr := updateLists(ctx); updateErr != nil {
		return debs{}, fmt.Errorf("cannot find Debian packages: %w", errors.Join(err, updateErr))
	}
	d, err = candidates(ctx, names)
	if err != nil {
		return debs{}, fmt.Errorf("cannot find Debian packages (the lab runs on Debian 12): %w", err)
	}
	return d, nil
}

// updateLists downloads apt's package lists.
func updateLists(ctx context.Context) error {
	_, err := run(ctx, process{name: "apt-get", args: []string{"update"}})
	return err
}

// candidates parses apt-get's output: 'URI' NAME_VERSION_ARCH.deb SIZE DIGEST.
func candidates(ctx context.Context, names []string) (debs, error) {
	out, err := run(ctx, process{name: "apt-get", args: append([]string{"download", "--print-uris"}, names...)})
	if err != nil {
		return debs{}, err
	}
	d := debs{names: names}
	for line := range strings.Lines(out) {
		if fields := strings.Fields(line); len(fields) == 4 && strings.HasSuffix(fields[1], ".deb") {
			d.files = append(d.files, fields[1]+" "+fields[3])
		}
	}
	if len(d.files) != len(names) {
		return debs{}, fmt.Errorf("apt-get download knows %d of the %d packages %s", len(d.files), len(names), strings.Join(names, " "))
	}
	slices.Sort(d.files)
	return d, nil
}

// errDownload means that apt knows a package and cannot download it. Often its
// package lists are older than the mirror.
var errDownload = errors.New("cannot download Debian packages")

// unpack downloads the packages, which apt verifies, and unpacks them into dir.
// It installs nothing and runs no package scripts.
func (d debs) unpack(ctx context.Context, dir string) error {
	downloads, err := os.MkdirTemp(filepath.Dir(dir), "debs-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(downloads)
	// By default apt downloads as a user that cannot write into the directory.
	args := append([]string{"-o", "APT::Sandbox::User=root", "download"}, d.names...)
	if _, err := run(ctx, process{name: "apt-get", args: args, dir: downloads}); err != nil {
		return fmt.Errorf("%w: %w", errDownload, err)
	}
	files, err := filepath.Glob(filepath.Join(downloads, "*.deb"))
	if err != nil {
		return err
	}
	if len(files) != len(d.names) {
		return fmt.Errorf("%w: got %d of %d", errDownload, len(files), len(d.names))
	}
	for _, f := range files {
		if _, err := run(ctx, process{name: "dpkg-deb", args: []string{"-x", f, dir}}); err != nil {
			return fmt.Errorf("cannot unpack %s: %w", filepath.Base(f), err)
		}
	}
	return nil
}
