package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/images/golden"
	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/stages"
)

// bakeFlags are those of bake.
type bakeFlags struct {
	plan, here, noConfig, noBundle bool
	binary, bundle                 string
}

func (c *cli) bake() *cobra.Command {
	var f bakeFlags
	cmd := &cobra.Command{
		Use:   "bake --root DIR [--plan]",
		Short: "Put firstboot into an image's root folder, enabled",
		Long: `Puts this program, its units, a configuration and a bundle of what that pins into
an unpacked image, and gives Docker its cluster store already, so that it need not
restart at first boot. Nothing of the image is run. A second bake changes nothing.

The first --config becomes /etc/firstboot/config.yaml, further ones drop-ins in
/etc/firstboot/config.d; without any the image must have its own.`,
		Example: "  firstboot bake --root /mnt/image --config my.yaml\n  firstboot bake --root /mnt/image --config my.yaml --bundle ./firstboot-bundle --plan\n  firstboot bake --this-machine --config my.yaml",
		Annotations: codes("0    baked, or there was nothing to do", "1    the image, or an artifact, is not as it should be", "2    usage",
			"3    the configuration is invalid, or cannot be read", "6    something would change (--plan)", "130  interrupted"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			return c.doBake(ctx, f)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.plan, "plan", false, "show what would change, and change nothing")
	flags.BoolVar(&f.here, "this-machine", false, "bake the machine that this runs on, from inside an image builder")
	flags.BoolVar(&f.noConfig, "no-config", false, "the configuration comes later: by user-data or the kernel's command line")
	flags.StringVar(&f.bundle, "bundle", "", "put in this ready bundle (`DIR`) instead of fetching what the configuration pins")
	flags.BoolVar(&f.noBundle, "no-bundle", false, "put in no bundle")
	flags.StringVar(&f.binary, "binary", selfPath, "put in this firstboot (`FILE`), for an image of another processor")
	return cmd
}

func (f bakeFlags) check(h *host.Host, files []string) error {
	usage := func(text, format string, args ...any) error {
		return &app.UsageError{Err: hint(errors.New(text), format, args...)}
	}
	switch {
	case h.Live() && !f.here:
		return usage("bake needs --root DIR, the folder of an unpacked image", "firstboot bake --this-machine is for builders that run inside of their image")
	case !h.Live() && f.here:
		return usage("--root and --this-machine exclude each other", "firstboot bake --root %s", h.Root())
	case f.noConfig && len(files) > 0:
		return usage("--config and --no-config exclude each other", "leave one of them out")
	case f.bundle != "" && f.noBundle:
		return usage("--bundle and --no-bundle exclude each other", "leave one of them out")
	}
	return nil
}

func (c *cli) doBake(ctx context.Context, f bakeFlags) error {
	h := host.New(c.root, host.Offline())
	if err := f.check(h, c.files); err != nil {
		return err
	}
	plan, err := c.baker(h, f).Plan(ctx)
	if _, invalid := config.IsInvalid(err); invalid && len(c.files) == 0 && !c.json() {
		fmt.Fprintln(c.errs, "firstboot: hint: name a configuration with --config, or say --no-config if it comes later")
	}
	if err != nil {
		return configError(err)
	}
	if os.Geteuid() != 0 {
		plan.Warnings = append(plan.Warnings, fmt.Sprintf("not root: the files will belong to user %d", os.Geteuid()))
	}
	c.warn(plan.Warnings)
	if f.plan {
		return c.showBakePlan(plan)
	}
	for _, change := range plan.Changes {
		if err := change.Apply(ctx); err != nil {
			return err
		}
		if !c.json() {
			fmt.Fprintf(c.out, "%-6s %s%s\n", change.Action, change.Path, sizeOf(change))
		}
	}
	if c.json() {
		return c.print(plan)
	}
	if len(plan.Changes) == 0 {
		fmt.Fprintf(c.out, "nothing to do: %s is baked already\n", c.root)
		return nil
	}
	fmt.Fprintf(c.out, "baked %s: %s; before it is cloned: firstboot seal --root %s\n", c.root, count(len(plan.Changes), "change"), c.root)
	return nil
}

// configError makes what is wrong with the configuration exit 3.
func configError(err error) error {
	if _, invalid := config.IsInvalid(err); invalid {
		return &app.ConfigError{Err: err}
	}
	return err
}

// baker wires the stages' artifacts and files to an image.
func (c *cli) baker(h *host.Host, f bakeFlags) *golden.Bake {
	artifacts := func(conf *config.Config) []golden.Artifact {
		return golden.Artifacts(conf, (&stages.Env{Config: conf}).References())
	}
	var bundles []string
	for _, dir := range stages.BundleDirs() {
		bundles = append(bundles, h.RealPath(dir))
	}
	return &golden.Bake{
		Host: h, Binary: f.binary, Config: c.files, NoConfig: f.noConfig,
		Files: earlyFiles, BundleDirs: stages.BundleDirs(), Artifacts: artifacts, Bundle: f.bundle, NoBundle: f.noBundle,
		Collect: func(ctx context.Context, conf *config.Config) (golden.Collection, error) {
			collector := c.collector(h, conf, bundles[0], bundles...)
			collector.Artifacts = golden.Pinned(collector.Artifacts)
			return collector.Collect(ctx)
		},
	}
}

// earlyFiles are the stages' files that others read at boot before a stage can
// write them.
func earlyFiles(conf *config.Config, h *host.Host) ([]golden.File, error) {
	list, err := stages.ImageFiles(conf, h)
	var files []golden.File
	for _, f := range list {
		files = append(files, golden.File{Path: f.Path, Data: f.Data, Mode: f.Mode})
	}
	return files, err
}

func (c *cli) showBakePlan(p *golden.Plan) error {
	if c.json() {
		if err := c.print(p); err != nil {
			return err
		}
	} else {
		for _, change := range p.Changes {
			fmt.Fprintf(c.out, "would %-6s %s%s: %s\n%s", change.Action, change.Path, sizeOf(change), change.Actual, change.Diff)
		}
		fmt.Fprintf(c.out, "%s in %s\n", count(len(p.Changes), "change"), c.root)
	}
	if len(p.Changes) > 0 {
		return end(app.ExitPending)
	}
	return nil
}

func sizeOf(change golden.Change) string {
	if change.Size == 0 {
		return ""
	}
	return " (" + bytesOf(change.Size) + ")"
}
