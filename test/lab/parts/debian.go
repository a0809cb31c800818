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

// imagePackages are Debian's packages with the programs of the node image, and
// with the libraries that these need. A library that no package here holds is
// an error when the image is built.
func imagePackages() []string {
	return []string{
		"bird",           // bird, bird6, birdc
		"runit",          // runsvdir, runsv, sv, svlogd: keep the image's services running
		"iptables",       // both multi-binaries and their plugins
		"ipset",          // Felix' sets
		"conntrack",      // Felix removes connections of what is gone
		"iproute2",       // ip, tc
		"bash",           // the log services of the image are bash scripts
		"busybox-static", // everything else that the scripts call
		"libc6", "libtinfo6", "libreadline8",
		"libmnl0", "libnftnl11", "libxtables12", "libip4tc2", "libip6tc2", "libipset13",
		"libnfnetlink0", "libnetfilter-conntrack3",
		"libbpf1", "libelf1", "libcap2", "libbsd0", "libmd0", "zlib1g",
	}
}

// debs are packages as apt would fetch them now.
type debs struct {
	names []string // as they were asked for
	files []string // NAME_VERSION_ARCH.deb and its hash
}

// key is an input of the cache's key: another version is another image.
func (d debs) key() string { return cache.Key(d.files...) }

// debianPackages asks apt which versions it would fetch. Where it knows of no
// packages (a new machine), its lists are fetched first.
func debianPackages(ctx context.Context, names []string) (debs, error) {
	d, err := candidates(ctx, names)
	if err == nil {
		return d, nil
	}
	if failed := updateLists(ctx); failed != nil {
		return debs{}, fmt.Errorf("cannot find Debian packages: %w", errors.Join(err, failed))
	}
	d, err = candidates(ctx, names)
	if err != nil {
		return debs{}, fmt.Errorf("cannot find Debian packages (the lab runs on Debian 12): %w", err)
	}
	return d, nil
}

// updateLists fetches what packages there are.
func updateLists(ctx context.Context) error {
	_, err := run(ctx, process{name: "apt-get", args: []string{"update"}})
	return err
}

// candidates reads apt-get's lines: 'URI' NAME_VERSION_ARCH.deb SIZE HASH.
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

// errNotFetched is a package that apt knows and cannot fetch: often its lists
// are older than the mirror's packages.
var errNotFetched = errors.New("cannot fetch Debian packages")

// unpack fetches the packages, which apt verifies, and unpacks them into dir.
// Nothing is installed and no script of theirs runs.
func (d debs) unpack(ctx context.Context, dir string) error {
	fetched, err := os.MkdirTemp(filepath.Dir(dir), "debs-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(fetched)
	// As root, apt would fetch as a user who may not write into the folder.
	args := append([]string{"-o", "APT::Sandbox::User=root", "download"}, d.names...)
	if _, err := run(ctx, process{name: "apt-get", args: args, dir: fetched}); err != nil {
		return fmt.Errorf("%w: %w", errNotFetched, err)
	}
	files, err := filepath.Glob(filepath.Join(fetched, "*.deb"))
	if err != nil {
		return err
	}
	if len(files) != len(d.names) {
		return fmt.Errorf("%w: %d of %d came", errNotFetched, len(files), len(d.names))
	}
	for _, f := range files {
		if _, err := run(ctx, process{name: "dpkg-deb", args: []string{"-x", f, dir}}); err != nil {
			return fmt.Errorf("cannot unpack %s: %w", filepath.Base(f), err)
		}
	}
	return nil
}
