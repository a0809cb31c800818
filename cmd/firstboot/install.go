package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/images/disk"
	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/report"
	"github.com/projecteru2/firstboot/internal/secret"
	"github.com/projecteru2/firstboot/internal/web"
)

// installFlags are the flags of install.
type installFlags struct {
	disk.Options
	fromKernel, configure, reboot bool
}

func (c *cli) install() *cobra.Command {
	var f installFlags
	cmd := &cobra.Command{
		Use:   "install --image URL --sha256 DIGEST --disk DEVICE",
		Short: "Write a disk image to a disk, from a live system",
		Long: `Writes a raw disk image, optionally compressed with gzip, xz or zstd, to a disk
and reads it back. The first blocks are written last: after an interruption the
disk does not boot, and the same command starts over. A disk that holds data is
refused without --wipe; on a terminal install prompts instead. A disk that is in
use, or smaller than the image, is always refused.

A local image is read twice: install verifies its sha256 and its size before it
changes the disk. Of an image on a server it knows the size only if the image is
raw or compressed with zstd. Otherwise it prints so, and if the image turns out to
be too large or not to have the sha256, install fails and the disk does not boot.

With --configure the system on the disk gets the configuration of this machine,
including the kernel command line, and its host.name. If install fails, it sends
a report to report.url.`,
		Example: "  firstboot install --image http://10.0.0.5/golden.raw.zst --sha256 DIGEST --disk /dev/vda --reboot",
		Annotations: works(codes("0    the image is on the disk", "1    the image cannot be written", "2    usage error, or not root", "3    the configuration is invalid",
			"4    refused: the disk holds data, is in use or is too small; nothing was changed", "130  interrupted")),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.doInstall(cmd, f) },
	}
	flags := cmd.Flags()
	flags.StringVar((*string)(&f.Image.URL), "image", "", "`URL` of the image: http, https, file or an absolute path")
	flags.StringVar(&f.Image.SHA256, "sha256", "", "the sha256 `DIGEST` of the image file, 64 hexadecimal digits")
	flags.StringVar(&f.Disk, "disk", "", "write the image to `DEVICE`")
	flags.BoolVar(&f.Wipe, "wipe", false, "overwrite a disk that holds data")
	flags.BoolVar(&f.configure, "configure", false, "copy this machine's configuration to the system on the disk")
	flags.BoolVar(&f.reboot, "reboot", false, "reboot after success")
	flags.BoolVar(&f.fromKernel, "from-kernel", false, "read image, sha256, disk and wipe from firstboot.install.… on the kernel command line")
	return cmd
}

func (c *cli) doInstall(cmd *cobra.Command, f installFlags) error {
	if f.fromKernel {
		if err := f.readCommandLine(); err != nil {
			return err
		}
	}
	if err := f.validate(); err != nil {
		return &app.UsageError{Err: err}
	}
	if os.Geteuid() != 0 {
		return &app.UsageError{Err: hint(errors.New("install must be started as root: it writes to a disk"), "sudo firstboot install …")}
	}
	ctx, stop := app.NotifyContext(cmd.Context())
	defer stop()
	cmd.SetContext(ctx)
	out, terminal := c.progress(), c.terminal()
	if c.json() {
		out, terminal = c.errs, report.TerminalOf(c.errs, os.Getenv)
	}
	meter := report.NewMeter(out, terminal, time.Now)
	if c.interactive() && !f.fromKernel {
		f.Confirm = func(contents string, sized bool) bool {
			meter.Close()
			return confirm(os.Stdin, c.errs, overwriteQuestion(f.Disk, contents, sized))
		}
	}
	f.SizeUnknown = func() { meter.Printf("%s", sizeUnknown) }
	f.Progress, f.Waiting = meter.Progress, func(err error) { meter.Printf("waiting for the image: %v", err) }
	written, err := c.writeDisk(cmd, f, meter)
	if err != nil {
		return err
	}
	if c.json() {
		if err := c.printJSON(written); err != nil {
			return err
		}
	}
	if !f.reboot {
		return nil
	}
	meter.Printf("rebooting")
	_, err = host.New("/").Run(ctx, host.Command{Name: "systemctl", Args: []string{"--no-wall", "--no-block", "reboot"}, Timeout: time.Minute})
	if ctx.Err() != nil { // the reboot stopped this process
		return nil
	}
	return err
}

// sizeUnknown is printed before a disk is overwritten with a compressed image that does
// not state its size.
const sizeUnknown = "the size of the uncompressed image is not known: if it is larger than the disk, install fails and the disk does not boot"

// overwriteQuestion is the prompt for a disk that holds data.
func overwriteQuestion(device, contents string, sized bool) string {
	question := fmt.Sprintf("%s holds %s. Overwrite it?", device, contents)
	if !sized {
		question = sizeUnknown + "\n" + question
	}
	return question
}

// writeDisk loads the configuration first, so that an error in it is reported
// before anything is written. Then it writes the image and configures the system.
func (c *cli) writeDisk(cmd *cobra.Command, f installFlags, meter *report.Meter) (written disk.Result, err error) {
	ctx, h, began := cmd.Context(), host.New("/"), time.Now()
	var loaded *config.Loaded
	if f.configure {
		if loaded, err = app.LoadSources(ctx, c.options(), meter.Printf); err != nil {
			return disk.Result{}, err
		}
		f.Proxy = web.Proxy(loaded.Config.Proxy.HTTP.Reveal(), loaded.Config.Proxy.HTTPS.Reveal(), loaded.Config.Proxy.No)
		defer func() { app.ReportInstallFailure(ctx, c.options(), loaded, began, err, meter.Printf) }()
		// A machine that boots from the network again must keep its disk.
		if disk.InstalledImage(ctx, h, f.Disk) == f.Image.SHA256 {
			return disk.Result{}, hint(fmt.Errorf("cannot install: %s already holds a system from this image", f.Disk),
				"boot the machine from its disk; to start over: wipefs --all %s", f.Disk)
		}
	}
	written, err = disk.Write(ctx, h, f.Options)
	meter.Close()
	if err != nil {
		if ctx.Err() != nil {
			return written, fmt.Errorf("interrupted: %w", ctx.Err())
		}
		return written, err
	}
	if loaded != nil {
		if err := disk.Configure(ctx, h, f.Disk, loaded, f.Image.SHA256); err != nil {
			return written, err
		}
	}
	meter.Printf("%s: %d bytes written, verified and read back", written.Disk, written.Bytes)
	return written, nil
}

// readCommandLine sets the flags from the kernel command line.
func (f *installFlags) readCommandLine() error {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return fmt.Errorf("cannot read the kernel command line: %w", err)
	}
	values := config.InstallArguments(string(line))
	f.Image.URL, f.Image.SHA256, f.Disk, f.Wipe = secret.URL(values["image"]), values["sha256"], values["disk"], values["wipe"] == "true"
	return nil
}

func (f *installFlags) validate() error {
	if f.Image.URL == "" || f.Disk == "" {
		return hint(errors.New("install needs an image and a disk"), "add --image URL --sha256 DIGEST --disk DEVICE")
	}
	return disk.CheckImage(f.Image)
}
