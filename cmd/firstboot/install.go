package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/images/disk"
	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/report"
)

// installFlags are those of install.
type installFlags struct {
	disk.Options
	kernel, configure, reboot bool
}

func (c *cli) install() *cobra.Command {
	var f installFlags
	cmd := &cobra.Command{
		Use:   "install --image URL --sha256 DIGITS --disk DEVICE",
		Short: "Write a disk image to a disk, from a live root",
		Long: `Writes a raw disk image (or one compressed by gzip, xz or zstd) to a disk and
reads it back. The first blocks come last: cut off anywhere, the disk does not
boot, and the same command starts anew. A disk that holds data is refused
without --wipe, one that is in use always.

With --configure the system on the disk gets this machine's configuration, the
kernel command line's included, and its host.name; report.url is told if the
disk cannot be written.`,
		Example: "  firstboot install --image http://10.0.0.5/golden.raw.zst --sha256 DIGITS --disk /dev/vda --reboot",
		Annotations: codes("0    the image is on the disk", "1    it is not", "2    usage, or not root", "3    the configuration is invalid",
			"4    refused: the disk holds data, or is in use", "130  interrupted"),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.doInstall(cmd, f) },
	}
	flags := cmd.Flags()
	flags.StringVar((*string)(&f.Image.URL), "image", "", "the image's `URL`: http, https, file or an absolute path")
	flags.StringVar(&f.Image.SHA256, "sha256", "", "what the file's sha256 must be, as 64 hexadecimal `DIGITS`")
	flags.StringVar(&f.Disk, "disk", "", "write it to this `DEVICE`")
	flags.BoolVar(&f.Wipe, "wipe", false, "give up the data that the disk holds")
	flags.BoolVar(&f.configure, "configure", false, "hand this machine's configuration to the system on the disk")
	flags.BoolVar(&f.reboot, "reboot", false, "reboot at the end")
	flags.BoolVar(&f.kernel, "from-kernel", false, "take image, sha256, disk and wipe from firstboot.install.… on the kernel command line")
	return cmd
}

func (c *cli) doInstall(cmd *cobra.Command, f installFlags) error {
	if f.kernel {
		if err := f.fromKernel(); err != nil {
			return err
		}
	}
	if err := f.check(); err != nil {
		return &app.UsageError{Err: err}
	}
	if os.Geteuid() != 0 {
		return &app.UsageError{Err: hint(errors.New("install writes to a disk and must be started by root"), "sudo firstboot install …")}
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	cmd.SetContext(ctx)
	out := c.out
	if c.json() {
		out = c.errs
	}
	meter := report.NewMeter(out, report.TerminalOf(out, os.Getenv), time.Now)
	f.Progress, f.Waiting = meter.Progress, func(err error) { meter.Printf("waiting for the image: %v", err) }
	written, err := c.putOnDisk(cmd, f, meter)
	if err != nil {
		return err
	}
	if c.json() {
		if err := c.print(written); err != nil {
			return err
		}
	}
	if !f.reboot {
		return nil
	}
	meter.Printf("rebooting")
	_, err = host.New("/").Run(ctx, host.Command{Name: "systemctl", Args: []string{"--no-wall", "--no-block", "reboot"}, Timeout: time.Minute})
	if ctx.Err() != nil { // the reboot has come to this process
		return nil
	}
	return err
}

// putOnDisk is the installation: the configuration first, since a mistake in
// it must be known before anything is written.
func (c *cli) putOnDisk(cmd *cobra.Command, f installFlags, meter *report.Meter) (written disk.Result, err error) {
	ctx, h, began := cmd.Context(), host.New("/"), time.Now()
	var loaded *config.Loaded
	if f.configure {
		if loaded, err = app.LoadSources(ctx, c.options(), meter.Printf); err != nil {
			return disk.Result{}, err
		}
		defer func() { app.ReportInstallFailure(ctx, c.options(), loaded, began, err, meter.Printf) }()
		// A machine that boots from the network again must not lose its disk.
		if disk.InstalledImage(ctx, h, f.Disk) == f.Image.SHA256 {
			return disk.Result{}, hint(fmt.Errorf("cannot install: %s holds a system made from this image already", f.Disk),
				"let the machine boot from its disk; to start anew: wipefs --all %s", f.Disk)
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

// fromKernel takes what the kernel's command line says.
func (f *installFlags) fromKernel() error {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return fmt.Errorf("cannot read the kernel's command line: %w", err)
	}
	values := config.InstallArguments(string(line))
	f.Image.URL, f.Image.SHA256, f.Disk, f.Wipe = config.URL(values["image"]), values["sha256"], values["disk"], values["wipe"] == "true"
	return nil
}

func (f *installFlags) check() error {
	if f.Image.URL == "" || f.Disk == "" {
		return hint(errors.New("install needs an image and a disk"), "add --image URL --sha256 DIGITS --disk DEVICE")
	}
	return disk.CheckImage(f.Image)
}
