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

// pxeFlags are those of render pxe.
type pxeFlags struct {
	format *string
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
		Use:   "pxe --dir DIR --url URL [--hosts FILE] [--image URL --sha256 DIGITS --disk DEVICE]",
		Short: "Write the folder that hosts boot from over the network",
		Long: `Writes iPXE scripts, the configuration by its sha256, and groups, profiles and
Ignition configs for matchbox. Any HTTP server can serve the folder; DHCP names
URL/boot.ipxe to iPXE. Put kernel and initrd into the folder yourself.

With --signed-by the configuration is verified by a signature instead, by that
key in the host's image; sign it with gpg whenever it changed:
  gpg --armor --detach-sign DIR/config/signed.yaml

A host runs from memory; with --image its live root writes that image to the
disk first (firstboot install) and reboots.

FILE has hosts with values of their own:
  hosts:
    - mac: 52:54:00:12:34:56          # or uuid: …
      name: web-1
      values: {host.address: 10.0.0.11}
      args: [console=ttyS1]`,
		Example: "  firstboot render pxe --config my.yaml --dir /srv/http --url http://10.0.0.5:8080\n" +
			"  firstboot render pxe --config my.yaml --dir /srv/http --url http://10.0.0.5:8080 --hosts hosts.yaml \\\n" +
			"      --image http://10.0.0.5:8080/golden.raw.zst --sha256 DIGITS --disk /dev/vda",
		Annotations: renderCodes(),
		RunE:        func(cmd *cobra.Command, _ []string) error { return c.doPXE(cmd, f) },
	}
	f.format = c.formats(cmd, "print `FORMAT`: text or json; what is no format is the DIR")
	flags, r := cmd.Flags(), &f.render
	flags.StringVar(&f.dir, "dir", "", "write into `DIR`")
	flags.StringVar((*string)(&r.URL), "url", "", "the `URL` at which hosts see DIR")
	flags.StringVar(&f.hosts, "hosts", "", "`FILE` with hosts that have values of their own")
	flags.StringVar(&r.Kernel, "kernel", "vmlinuz", "the kernel's `NAME` in DIR, or its URL")
	flags.StringArrayVar(&r.Initrd, "initrd", []string{"initrd.img"}, "an initrd's `NAME` in DIR, or its URL (repeatable)")
	flags.StringArrayVar(&r.Args, "arg", nil, "a kernel `ARGUMENT` for every host (repeatable)")
	flags.StringVar((*string)(&r.Ignition), "matchbox", "", "the `URL` of a matchbox from which hosts get their Ignition config")
	flags.StringVar(&r.SignedBy, "signed-by", "", "hosts verify the configuration by its signature, with the public key at `PATH` in their image")
	flags.StringVar((*string)(&f.image.URL), "image", "", "write the disk image at `URL` to the host's disk")
	flags.StringVar(&f.image.SHA256, "sha256", "", "what that image's sha256 must be, as 64 hexadecimal `DIGITS`")
	flags.StringVar(&f.disk, "disk", "", "write it to this `DEVICE` of the host")
	flags.BoolVar(&f.wipe, "wipe", false, "also if the disk holds data")
	return cmd
}

func (c *cli) doPXE(cmd *cobra.Command, f pxeFlags) error {
	switch {
	case *f.format == "json":
		c.output = "json"
	case *f.format != "text" && f.dir == "":
		f.dir = *f.format
	case *f.format != "text":
		return c.choose(*f.format, "text", "json")
	}
	if f.dir == "" || f.render.URL == "" {
		return &app.UsageError{Err: hint(errors.New("render pxe needs a folder and its address"), "add --dir /srv/http --url http://10.0.0.5:8080")}
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
		if f.render.Hosts, err = pxe.ParseHosts(data); err != nil {
			return &app.ConfigError{Err: err}
		}
	}
	loaded, err := c.toRender(cmd)
	if err != nil {
		return err
	}
	return c.writePXE(cmd, f, loaded)
}

func (c *cli) writePXE(cmd *cobra.Command, f pxeFlags, loaded *config.Loaded) error {
	files, err := pxe.Render(cmd.Context(), loaded, f.render)
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(f.dir)
	if err != nil {
		return fmt.Errorf("cannot write to %s: %w", f.dir, err)
	}
	done, err := pxe.Write(dir, files)
	if err != nil {
		return err
	}
	if loaded.HoldsSecrets() {
		fmt.Fprintf(c.errs, "firstboot: warning: the configuration holds secrets: whoever reaches the server can read them; %s\n",
			"its files have mode 0640, so give them the server's group")
	}
	for _, name := range append([]string{f.render.Kernel}, f.render.Initrd...) {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil && pxe.IsLocal(name) {
			fmt.Fprintf(c.errs, "firstboot: warning: %s is not in %s yet: put it there\n", name, f.dir)
		}
	}
	if slices.Contains(done.Written, pxe.SignedPath) {
		fmt.Fprintf(c.errs, "firstboot: warning: hosts refuse the configuration until it is signed: gpg --armor --detach-sign --yes %s\n",
			filepath.Join(f.dir, pxe.SignedPath))
	}
	if c.json() {
		return c.print(done)
	}
	_, err = fmt.Fprintf(c.out, "%s: %d written, %d as they were, %d removed; boot %s/boot.ipxe\n",
		f.dir, len(done.Written), len(done.Unchanged), len(done.Removed), strings.TrimSuffix(f.render.URL.String(), "/"))
	return err
}
