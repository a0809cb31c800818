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

// imageInputs is what the node image is made of.
type imageInputs struct {
	calicoNode   string // the program
	calicoSource string // Calico's module: its templates and start-up files
	packages     debs
}

//go:embed archive.go debian.go elf.go image.go rootfs.go tree.go
var imageSources embed.FS

// recipe is an input of the image's key: the code that makes it.
func recipe() string {
	var all []string
	entries, err := imageSources.ReadDir(".")
	for _, e := range entries {
		data, failed := imageSources.ReadFile(e.Name())
		if failed != nil {
			err = failed
		}
		all = append(all, e.Name(), string(data))
	}
	if err != nil {
		panic(err) // what is embedded can be read
	}
	return cache.Key(all...)
}

// writeNodeImage writes an image like upstream's calico/node, as an archive
// for docker load: the same programs, scripts, templates and start, on
// Debian's packages.
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
			"SVDIR=/etc/service/enabled", // where sv finds the services, as upstream
			"CALICO_MANAGE_CNI=false",    // no Kubernetes here: its service would only log errors
		},
	})
}

// addCalico adds what upstream's image takes from Calico's own sources.
func addCalico(t tree, in imageInputs) error {
	t.copyOf("usr/bin/calico-node", in.calicoNode, 0o755)
	plain := func(string) fs.FileMode { return 0o644 }
	if err := t.copyFolder("etc/calico", filepath.Join(in.calicoSource, "confd/etc/calico"), plain); err != nil {
		return err
	}
	files := filepath.Join(in.calicoSource, "node/filesystem")
	for from, to := range map[string]string{"etc": "etc", "licenses": "licenses", "sbin": "usr/sbin"} {
		if err := t.copyFolder(to, filepath.Join(files, from), scriptMode); err != nil {
			return err
		}
	}
	return declareTunnel(t)
}

// scriptMode makes executable what upstream has so.
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

// declareTunnel makes the pools' filter one that Debian's bird takes. Calico's
// fork of bird has an attribute krt_tunnel for routes into an IPIP tunnel;
// here it is a local variable without effect, so IPIP pools do not work with
// this image.
func declareTunnel(t tree) error {
	data, err := os.ReadFile(t[poolFilter].from)
	if err != nil {
		return err
	}
	if n := bytes.Count(data, []byte(filterStart)); n != 1 {
		return fmt.Errorf("cannot declare krt_tunnel: %s has %d times %q, want once", poolFilter, n, filterStart)
	}
	declared := strings.TrimSuffix(filterStart, " {\n") + "\nstring krt_tunnel;\n{\n"
	t.text(poolFilter, strings.Replace(string(data), filterStart, declared, 1))
	return nil
}
