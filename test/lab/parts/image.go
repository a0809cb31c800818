package parts

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/projecteru2/firstboot/test/lab/cache"
)

// imageInputs are the inputs of the node image.
type imageInputs struct {
	calicoNode   string // path of the program
	calicoSource string // directory of Calico's Go module, with templates and startup scripts
	packages     debs
}

//go:embed archive.go debian.go elf.go image.go rootfs.go tree.go
var imageSources embed.FS

// recipe returns the part of the image's cache key for the code that builds it.
func recipe() string {
	var all []string
	entries, err := imageSources.ReadDir(".")
	for _, e := range entries {
		data, readErr := imageSources.ReadFile(e.Name())
		if readErr != nil {
			err = readErr
		}
		all = append(all, e.Name(), string(data))
	}
	if err != nil {
		panic(err) // reading an embedded file cannot fail
	}
	return cache.Key(all...)
}

// writeNodeImage writes an archive for docker load. The image is like
// upstream's calico/node: the same programs, scripts, templates and command,
// but from Debian's packages.
func writeNodeImage(ctx context.Context, in imageInputs, file string) error {
	unpacked, err := os.MkdirTemp(filepath.Dir(file), "root-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(unpacked)
	if err := in.packages.unpack(ctx, unpacked); err != nil {
		return err
	}
	t, err := rootfs(ctx, in, unpacked)
	if err != nil {
		return err
	}
	return writeArchive(file, t, imageConfig{
		Cmd: []string{"start_runit"},
		Env: []string{
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"SVDIR=/etc/service/enabled", // where sv finds the services, as in upstream's image
			"CALICO_MANAGE_CNI=false",    // without Kubernetes, the CNI service would only log errors
		},
	})
}

// addCalico adds the files that upstream's image takes from Calico's sources.
func addCalico(t tree, in imageInputs) error {
	t.addFile("usr/bin/calico-node", in.calicoNode, 0o755)
	fileMode := func(string) fs.FileMode { return 0o644 }
	if err := t.addDir("etc/calico", filepath.Join(in.calicoSource, "confd/etc/calico"), fileMode); err != nil {
		return err
	}
	files := filepath.Join(in.calicoSource, "node/filesystem")
	for from, to := range map[string]string{"etc": "etc", "licenses": "licenses", "sbin": "usr/sbin"} {
		if err := t.addDir(to, filepath.Join(files, from), scriptMode); err != nil {
			return err
		}
	}
	return declareTunnel(t)
}

// scriptMode returns the permissions that a file has in upstream's image.
func scriptMode(file string) fs.FileMode {
	switch path.Base(file) {
	case "run", "rc.local", "start_runit", "restart-calico-confd", "versions":
		return 0o755
	}
	return 0o644
}

const (
	poolFilter  = "etc/calico/confd/templates/bird_ipam.cfg.template"
	filterStart = "filter calico_kernel_programming {\n"
)

// declareTunnel changes the filter of the pools so that Debian's bird accepts
// it. Calico's fork of bird has an attribute krt_tunnel for routes into an IPIP
// tunnel. Here krt_tunnel becomes a local variable without effect, so IPIP
// pools do not work with this image.
func declareTunnel(t tree) error {
	data, err := os.ReadFile(t[poolFilter].from)
	if err != nil {
		return err
	}
	if n := bytes.Count(data, []byte(filterStart)); n != 1 {
		return fmt.Errorf("cannot declare krt_tunnel: %s contains %[3]q %[2]d times, want once", poolFilter, n, filterStart)
	}
	declared := strings.TrimSuffix(filterStart, " {\n") + "\nstring krt_tunnel;\n{\n"
	t.addText(poolFilter, strings.Replace(string(data), filterStart, declared, 1))
	return nil
}
