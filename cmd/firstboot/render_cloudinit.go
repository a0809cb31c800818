package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/images"
	"github.com/projecteru2/firstboot/images/cloudinit"
	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/report"
)

// The values of render cloud-init --format.
const (
	formatText = "text" // user-data
	formatISO  = "iso"  // a seed disk
	formatJSON = "json" // the files of the seed disk
)

var formats = []string{formatText, formatISO, formatJSON}

// cloudInitFlags are the flags of render cloud-init.
type cloudInitFlags struct {
	format     string
	install    *images.Remote
	writeFiles bool
	instance   string
	hostname   string
	network    string
}

func (c *cli) renderCloudInit() *cobra.Command {
	var f cloudInitFlags
	cmd := &cobra.Command{
		Use:   "cloud-init [--install URL --sha256 DIGEST] [--format FORMAT] [FILE]",
		Short: "Render user-data or a seed disk for cloud-init",
		Long: `Prints a #cloud-config with the configuration for an image with firstboot. With
--install it is for a stock image, which installs firstboot and starts it without
blocking cloud-init. With FILE the output is written to FILE, mode 0600.

--format iso writes a NoCloud seed disk. Releases of cloud-init after 22.4 warn
about the unknown key firstboot:. --write-files avoids the warning.`,
		Example: "  firstboot render cloud-init --config my.yaml > user-data\n" +
			"  firstboot render cloud-init --config my.yaml --format iso --hostname web-1 seed.iso\n" +
			"  firstboot render cloud-init --config my.yaml --install http://10.0.0.5/firstboot \\\n      --sha256 \"$(sha256sum firstboot | cut -d ' ' -f 1)\" > user-data",
		Annotations: renderCodes("--format"),
		Args:        atMostOneFile,
		RunE:        func(cmd *cobra.Command, args []string) error { return c.doCloudInit(cmd, args, f) },
	}
	f.install = remoteFlags(cmd, "the binary, .rpm or .deb")
	flags := cmd.Flags()
	flags.StringVar(&f.format, "format", formatText, "render `FORMAT`: text (user-data), iso (a seed disk) or json (the seed's files)")
	flags.BoolVar(&f.writeFiles, "write-files", false, "put the configuration in write_files, not in the key firstboot:")
	flags.StringVar(&f.instance, "instance-id", "", "instance `ID` of the seed (default: derived from its content)")
	flags.StringVar(&f.hostname, "hostname", "", "host `NAME` in the seed (default: host.name, else none)")
	flags.StringVar(&f.network, "network-config", "", "add the network configuration in `FILE` to the seed")
	return cmd
}

func (c *cli) doCloudInit(cmd *cobra.Command, args []string, f cloudInitFlags) error {
	if err := c.chooseFormat(cmd, &f); err != nil {
		return err
	}
	install, err := remoteSource(f.install)
	if err != nil {
		return err
	}
	if f.format == formatText && (f.instance != "" || f.hostname != "" || f.network != "") {
		return &app.UsageError{Err: hint(errors.New("user-data has no instance-id, host name or network configuration"), "add --format iso or --format json")}
	}
	loaded, err := c.loadForRender(cmd)
	if err != nil {
		return err
	}
	c.warnOfCertificates(loaded.Config.Etcd)
	data, err := cloudinit.UserData(loaded, cloudinit.Options{Install: install, WriteFiles: f.writeFiles})
	if err != nil {
		return err
	}
	if len(data) > cloudinit.SmallestLimit && f.format == formatText {
		fmt.Fprintf(c.errs, "firstboot: warning: the user-data has %d bytes; some clouds (EC2) accept at most %d\n", len(data), cloudinit.SmallestLimit)
	}
	if f.format == formatText {
		return c.writeRendered(cmd, args, data, loaded.HoldsSecrets())
	}
	seed, err := f.seed(loaded, data)
	if err != nil {
		return err
	}
	return c.writeSeed(cmd, args, seed, loaded.HoldsSecrets())
}

// chooseFormat checks --format. -o json selects the format json.
func (c *cli) chooseFormat(cmd *cobra.Command, f *cloudInitFlags) error {
	if !slices.Contains(formats, f.format) {
		return &app.UsageError{Err: hint(fmt.Errorf("unknown format %q", f.format), "use --format %s", strings.Join(formats, " or --format "))}
	}
	if c.json() && f.format != formatJSON {
		if cmd.Flags().Changed("format") {
			return &app.UsageError{Err: hint(fmt.Errorf("--format %s and -o json exclude each other", f.format), "omit one of them")}
		}
		f.format = formatJSON
	}
	if f.format == formatJSON {
		c.output = "json"
	}
	return nil
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

func (c *cli) writeSeed(cmd *cobra.Command, args []string, seed cloudinit.Seed, secret bool) error {
	if !c.json() {
		image, err := seed.ISO()
		if err != nil {
			return err
		}
		return c.writeRendered(cmd, args, image, true)
	}
	files, err := seed.Files()
	if err != nil {
		return err
	}
	named := map[string]string{}
	for _, f := range files {
		named[f.Name] = string(f.Data)
	}
	data, err := report.Document(named)
	if err != nil {
		return err
	}
	return c.writeRendered(cmd, args, data, secret)
}
