package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/images"
	"github.com/projecteru2/firstboot/images/pxe"
	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/config"
)

// pxeFlags are the flags of render pxe.
type pxeFlags struct {
	dir    string
	hosts  string
	render pxe.Options
	image  images.Remote
	disk   string
	wipe   bool
}

func (c *cli) renderPXE() *cobra.Command {
	var f pxeFlags
	cmd := &cobra.Command{
		Use:   "pxe --dir DIR --url URL [--hosts FILE] [--image URL --sha256 DIGEST --disk DEVICE]",
		Short: "Write the files of a PXE boot server",
		Long: `Writes iPXE scripts, the configuration pinned by sha256, and groups, profiles and
Ignition configs for matchbox. Any HTTP server can serve the directory; configure
DHCP to give URL/boot.ipxe to iPXE. Copy the kernel and the initrd to the directory
yourself.

With --signed-by the hosts verify the configuration by a signature instead, with a
public key in their image. Sign the configuration after every change:
  gpg --armor --detach-sign DIR/config/signed.yaml

A host runs from memory. With --image its live system first writes that image to
the disk (firstboot install) and reboots.

--hosts FILE sets values for single hosts:
  hosts:
    - mac: 52:54:00:12:34:56          # or uuid: …
      name: web-1
      values: {host.address: 10.0.0.11}
      args: [console=ttyS1]`,
		Example: "  firstboot render pxe --config my.yaml --dir /srv/http --url http://10.0.0.5:8080\n" +
			"  firstboot render pxe --config my.yaml --dir /srv/http --url http://10.0.0.5:8080 --hosts hosts.yaml \\\n" +
			"      --image http://10.0.0.5:8080/golden.raw.zst --sha256 DIGEST --disk /dev/vda",
		Annotations: renderCodes("--dir"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return c.doPXE(cmd, f) },
	}
	flags, r := cmd.Flags(), &f.render
	flags.StringVar(&f.dir, "dir", "", "write to `DIR`")
	flags.StringVar((*string)(&r.URL), "url", "", "the `URL` at which hosts reach DIR")
	flags.StringVar(&f.hosts, "hosts", "", "read values for single hosts from `FILE`")
	flags.StringVar(&r.Kernel, "kernel", "vmlinuz", "`NAME` of the kernel in DIR, or its URL")
	flags.StringArrayVar(&r.Initrd, "initrd", []string{"initrd.img"}, "`NAME` of an initrd in DIR, or its URL (repeatable)")
	flags.StringArrayVar(&r.Args, "arg", nil, "kernel `ARGUMENT` for every host (repeatable)")
	flags.StringVar((*string)(&r.Ignition), "matchbox", "", "`URL` of a matchbox server from which hosts get their Ignition config")
	flags.StringVar(&r.SignedBy, "signed-by", "", "verify the configuration by its signature, with the public key at `PATH` in the hosts' image")
	flags.StringVar((*string)(&f.image.URL), "image", "", "write the disk image at `URL` to the disk of each host")
	flags.StringVar(&f.image.SHA256, "sha256", "", "the sha256 `DIGEST` of that image, 64 hexadecimal digits")
	flags.StringVar(&f.disk, "disk", "", "write the image to this `DEVICE` of each host")
	flags.BoolVar(&f.wipe, "wipe", false, "overwrite a disk that holds data")
	return cmd
}

func (c *cli) doPXE(cmd *cobra.Command, f pxeFlags) error {
	if f.dir == "" || f.render.URL == "" {
		return &app.UsageError{Err: hint(errors.New("render pxe needs a directory and its URL"), "add --dir /srv/http --url http://10.0.0.5:8080")}
	}
	if f.image.URL != "" || f.disk != "" || f.image.SHA256 != "" || f.wipe {
		f.render.Install = &pxe.Install{Image: f.image, Disk: f.disk, Wipe: f.wipe}
	}
	if err := f.render.Check(); err != nil {
		return &app.UsageError{Err: err}
	}
	if f.hosts != "" {
		data, err := readInput("--hosts", f.hosts)
		if err != nil {
			return err
		}
		if f.render.Hosts, err = pxe.ParseHosts(f.hosts, data); err != nil {
			return &app.ConfigError{Err: err}
		}
	}
	loaded, err := c.loadForRender(cmd)
	if err != nil {
		return err
	}
	c.warnOfCertificates(loaded.Config.Etcd)
	return c.writePXE(cmd, f, loaded)
}

func (c *cli) writePXE(cmd *cobra.Command, f pxeFlags, loaded *config.Loaded) error {
	files, err := pxe.Render(cmd.Context(), loaded, f.render)
	if err != nil {
		return configError(err)
	}
	dir, err := filepath.Abs(f.dir)
	if err != nil {
		return fmt.Errorf("cannot write to %s: %w", f.dir, err)
	}
	done, err := pxe.Write(dir, files)
	if err != nil {
		return err
	}
	c.warnOfSecrets(f.dir, files)
	for _, name := range append([]string{f.render.Kernel}, f.render.Initrd...) {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil && pxe.IsLocal(name) {
			fmt.Fprintf(c.errs, "firstboot: warning: %s is missing in %s: copy it there\n", name, f.dir)
		}
	}
	if slices.Contains(done.Written, pxe.SignedPath) {
		fmt.Fprintf(c.errs, "firstboot: warning: hosts refuse the configuration until it is signed: gpg --armor --detach-sign --yes %s\n",
			filepath.Join(f.dir, pxe.SignedPath))
	}
	if c.json() {
		return c.printJSON(done)
	}
	_, err = fmt.Fprintf(c.out, "%s: %d files written, %d unchanged, %d removed; boot %s/boot.ipxe\n",
		f.dir, len(done.Written), len(done.Unchanged), len(done.Removed), strings.TrimSuffix(f.render.URL.String(), "/"))
	return err
}

// warnOfSecrets names the files that contain secrets.
func (c *cli) warnOfSecrets(dir string, files []pxe.File) {
	const most = 5
	var names []string
	for _, f := range files {
		if f.Secret {
			names = append(names, filepath.Join(dir, f.Path))
		}
	}
	if len(names) == 0 {
		return
	}
	more := ""
	if len(names) > most {
		more = fmt.Sprintf(" and %d more", len(names)-most)
		names = names[:most]
	}
	fmt.Fprintf(c.errs, "firstboot: warning: everyone who can reach the server can read the secrets in %s%s; the files have mode 0640: give them the group of the server\n",
		strings.Join(names, ", "), more)
}
