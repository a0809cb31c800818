package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/images"
	"github.com/projecteru2/firstboot/images/ignition"
	"github.com/projecteru2/firstboot/internal/app"
)

// ignitionFlags are those of render ignition.
type ignitionFlags struct {
	install *images.Remote
	butane  bool
	merge   string
}

func (c *cli) renderIgnition() *cobra.Command {
	var f ignitionFlags
	cmd := &cobra.Command{
		Use:   "ignition [--install URL --sha256 DIGITS] [--merge FILE] [--butane] [FILE]",
		Short: "Print an Ignition config",
		Long: `Prints an Ignition config of spec 3.3.0 that hands the configuration to an image
with firstboot; with --install to one without. With FILE it is written there,
mode 0600. Ignition's own validator has read it.

Ignition enables units by systemd's presets, which are applied only where
/etc/machine-id is missing or says uninitialized; with --install a link enables
them as well.`,
		Example: "  firstboot render ignition --config my.yaml > host.ign\n" +
			"  firstboot render ignition --config my.yaml --merge base.ign host.ign\n" +
			"  firstboot render ignition --config my.yaml --butane host.bu",
		Annotations: renderCodes(),
		Args:        one,
		RunE:        func(cmd *cobra.Command, args []string) error { return c.doIgnition(cmd, args, f) },
	}
	f.install = remoteFlags(cmd, "the static binary")
	cmd.Flags().BoolVar(&f.butane, "butane", false, "print Butane YAML (fcos 1.4.0), for people who edit it")
	cmd.Flags().StringVar(&f.merge, "merge", "", "merge into the Ignition config in `FILE`; what both say is said by this configuration")
	return cmd
}

func (c *cli) doIgnition(cmd *cobra.Command, args []string, f ignitionFlags) error {
	if f.butane && c.json() {
		return &app.UsageError{Err: hint(errors.New("butane is YAML, not JSON"), "leave out --butane or -o json")}
	}
	install, err := given(f.install)
	if err != nil {
		return err
	}
	o := ignition.Options{Install: install}
	if f.merge != "" {
		if o.Merge, err = readInput("--merge", f.merge); err != nil {
			return err
		}
	}
	loaded, err := c.toRender(cmd)
	if err != nil {
		return err
	}
	o.Hostname = loaded.Config.Host.Name
	rendered, err := ignition.Render(loaded, o)
	if err != nil {
		return err
	}
	for _, w := range rendered.Warnings {
		fmt.Fprintln(c.errs, "firstboot: warning:", w)
	}
	data := rendered.JSON
	if f.butane {
		if data, err = rendered.Butane(); err != nil {
			return err
		}
	}
	return c.hand(cmd, args, data, loaded.HoldsSecrets())
}
