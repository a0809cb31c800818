package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/images"
	"github.com/projecteru2/firstboot/images/cloudinit"
	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/config"
)

// cloudInitFlags are those of render cloud-init.
type cloudInitFlags struct {
	format     *string
	install    *images.Remote
	writeFiles bool
	instance   string
	hostname   string
	network    string
}

func (c *cli) renderCloudInit() *cobra.Command {
	var f cloudInitFlags
	cmd := &cobra.Command{
		Use:   "cloud-init [--install URL --sha256 DIGITS] [-o iso] [FILE]",
		Short: "Print user-data, or make a seed disk",
		Long: `Prints a #cloud-config that hands the configuration to an image with firstboot;
with --install to a stock image, which then gets firstboot first and starts it,
without cloud-init waiting for it. With FILE it is written there, mode 0600.

-o iso makes a NoCloud seed disk of it. Releases of cloud-init after 22.4 call
the key firstboot: unknown; --write-files keeps their status clean.`,
		Example: "  firstboot render cloud-init --config my.yaml > user-data\n" +
			"  firstboot render cloud-init --config my.yaml -o iso --hostname web-1 seed.iso\n" +
			"  firstboot render cloud-init --config my.yaml --install http://10.0.0.5/firstboot \\\n      --sha256 \"$(sha256sum firstboot | cut -d ' ' -f 1)\" > user-data",
		Annotations: renderCodes(),
		Args:        one,
		RunE:        func(cmd *cobra.Command, args []string) error { return c.doCloudInit(cmd, args, f) },
	}
	f.format = c.formats(cmd, "print `FORMAT`: text, iso (a seed disk), or json (the seed's files)")
	f.install = remoteFlags(cmd, "the binary, .rpm or .deb")
	flags := cmd.Flags()
	flags.BoolVar(&f.writeFiles, "write-files", false, "carry the configuration in write_files, not in the key firstboot:")
	flags.StringVar(&f.instance, "instance-id", "", "the seed's instance `ID`; default: made from what it holds")
	flags.StringVar(&f.hostname, "hostname", "", "the seed's host `NAME`; default: host.name, else the machine keeps its own")
	flags.StringVar(&f.network, "network-config", "", "put this network configuration `FILE` into the seed")
	return cmd
}

func (c *cli) doCloudInit(cmd *cobra.Command, args []string, f cloudInitFlags) error {
	if err := c.choose(*f.format, "text", "iso", "json"); err != nil {
		return err
	}
	install, err := given(f.install)
	if err != nil {
		return err
	}
	if *f.format == "text" && (f.instance != "" || f.hostname != "" || f.network != "") {
		return &app.UsageError{Err: hint(fmt.Errorf("user-data alone has no instance-id, host name or network configuration"), "add -o iso or -o json")}
	}
	loaded, err := c.toRender(cmd)
	if err != nil {
		return err
	}
	data, err := cloudinit.UserData(loaded, cloudinit.Options{Install: install, WriteFiles: f.writeFiles})
	if err != nil {
		return err
	}
	if len(data) > cloudinit.SmallestLimit && *f.format == "text" {
		fmt.Fprintf(c.errs, "firstboot: warning: this user-data has %d bytes, and some clouds take only %d (EC2)\n", len(data), cloudinit.SmallestLimit)
	}
	if *f.format == "text" {
		return c.hand(cmd, args, data, loaded.HoldsSecrets())
	}
	seed, err := f.seed(loaded, data)
	if err != nil {
		return err
	}
	return c.handSeed(cmd, args, seed, loaded.HoldsSecrets())
}

func (f cloudInitFlags) seed(loaded *config.Loaded, userData []byte) (cloudinit.Seed, error) {
	seed := cloudinit.Seed{UserData: userData, InstanceID: f.instance, Hostname: f.hostname}
	if seed.Hostname == "" {
		seed.Hostname = loaded.Config.Host.Name
	}
	if f.network == "" {
		return seed, nil
	}
	network, err := readInput("--network-config", f.network)
	seed.NetworkConfig = network
	return seed, err
}

func (c *cli) handSeed(cmd *cobra.Command, args []string, seed cloudinit.Seed, secret bool) error {
	if !c.json() {
		image, err := seed.ISO()
		if err != nil {
			return err
		}
		return c.hand(cmd, args, image, true)
	}
	files, err := seed.Files()
	if err != nil {
		return err
	}
	named := map[string]string{}
	for _, f := range files {
		named[f.Name] = string(f.Data)
	}
	data, err := jsonText(named)
	if err != nil {
		return err
	}
	return c.hand(cmd, args, data, secret)
}
