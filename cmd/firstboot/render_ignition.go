package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/images"
	"github.com/projecteru2/firstboot/images/ignition"
	"github.com/projecteru2/firstboot/internal/app"
)

// ignitionFlags are the flags of render ignition.
type ignitionFlags struct {
	install *images.Remote
	butane  bool
	merge   string
}

func (c *cli) renderIgnition() *cobra.Command {
	var f ignitionFlags
	cmd := &cobra.Command{
		Use:   "ignition [--install URL --sha256 DIGEST] [--merge FILE] [--butane] [FILE]",
		Short: "Render an Ignition config",
		Long: `Prints an Ignition config (spec 3.3.0) with the configuration for an image with
firstboot, or with --install for an image without. With FILE the output is written
to FILE, mode 0600. Ignition's own validator checks the output.

Ignition enables units through systemd presets. systemd applies presets only if
/etc/machine-id is missing or contains uninitialized. With --install the units are
also enabled by a symbolic link.`,
		Example: "  firstboot render ignition --config my.yaml > host.ign\n" +
			"  firstboot render ignition --config my.yaml --merge base.ign host.ign\n" +
			"  firstboot render ignition --config my.yaml --butane host.bu",
		Annotations: renderCodes(""),
		Args:        atMostOneFile,
		RunE:        func(cmd *cobra.Command, args []string) error { return c.doIgnition(cmd, args, f) },
	}
	f.install = remoteFlags(cmd, "the static binary")
	cmd.Flags().BoolVar(&f.butane, "butane", false, "print Butane YAML (fcos 1.4.0), for editing")
	cmd.Flags().StringVar(&f.merge, "merge", "", "merge into the Ignition config in `FILE`; on conflict this configuration wins")
	return cmd
}

func (c *cli) doIgnition(cmd *cobra.Command, args []string, f ignitionFlags) error {
	if f.butane && c.json() {
		return &app.UsageError{Err: hint(errors.New("--butane and -o json exclude each other"), "omit one of them")}
	}
	install, err := remoteSource(f.install)
	if err != nil {
		return err
	}
	o := ignition.Options{Install: install}
	if f.merge != "" {
		if o.Merge, err = readInput("--merge", f.merge); err != nil {
			return err
		}
	}
	loaded, err := c.loadForRender(cmd)
	if err != nil {
		return err
	}
	o.Hostname = loaded.Config.Host.Name
	rendered, err := ignition.Render(loaded, o)
	if err != nil {
		return err
	}
	var contained []string
	for _, f := range rendered.Config.Storage.Files {
		contained = append(contained, f.Path)
	}
	c.warnOfCertificates(loaded.Config.Etcd, contained...)
	c.warn(rendered.Warnings)
	data := rendered.JSON
	if f.butane {
		if data, err = rendered.Butane(); err != nil {
			return err
		}
	}
	return c.writeRendered(cmd, args, data, loaded.HoldsSecrets())
}
