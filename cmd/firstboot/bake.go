package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/images/golden"
	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/report"
	"github.com/projecteru2/firstboot/stages"
)

// bakeFlags are the flags of bake.
type bakeFlags struct {
	plan, thisMachine, noConfig, noBundle bool
	binary, bundle                        string
}

func (c *cli) bake() *cobra.Command {
	var f bakeFlags
	cmd := &cobra.Command{
		Use:   "bake --root DIR [--plan]",
		Short: "Install firstboot into the root directory of an image",
		Long: `Installs into an unpacked image: this program, its enabled units, the
configuration and a bundle with the pinned artifacts. It also sets Docker's
cluster-store, so that Docker need not restart at first boot. bake does not run
any program of the image. A second bake changes nothing.

The first --config becomes /etc/firstboot/config.yaml, the others become drop-ins
in /etc/firstboot/config.d. Without --config the image must have a configuration.`,
		Example: "  firstboot bake --root /mnt/image --config my.yaml\n  firstboot bake --root /mnt/image --config my.yaml --bundle ./firstboot-bundle --plan\n  firstboot bake --this-machine --config my.yaml",
		Annotations: codes("0    baked, or nothing to do", "1    the image or an artifact cannot be used", "2    usage error",
			"3    the configuration is invalid, or cannot be read", "6    --plan: bake would change something", "130  interrupted"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := app.NotifyContext(cmd.Context())
			defer stop()
			return c.doBake(ctx, f)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.plan, "plan", false, "show what bake would change, without changing anything")
	flags.BoolVar(&f.thisMachine, "this-machine", false, "bake the running machine, inside an image builder")
	flags.BoolVar(&f.noConfig, "no-config", false, "install no configuration: it comes later, from user-data or the kernel command line")
	flags.StringVar(&f.bundle, "bundle", "", "install the bundle in `DIR` instead of fetching the pinned artifacts")
	flags.BoolVar(&f.noBundle, "no-bundle", false, "install no bundle")
	flags.StringVar(&f.binary, "binary", selfPath, "install the firstboot binary `FILE`, for an image of another architecture (default: this program)")
	flags.Lookup("binary").DefValue = "" // not the path /proc/self/exe
	return cmd
}

func (f bakeFlags) validate(h *host.Host, files []string) error {
	usage := func(text, format string, args ...any) error {
		return &app.UsageError{Err: hint(errors.New(text), format, args...)}
	}
	switch {
	case h.Live() && !f.thisMachine:
		return usage("bake needs --root DIR, the directory of an unpacked image", "inside an image builder: firstboot bake --this-machine")
	case !h.Live() && f.thisMachine:
		return usage("--root and --this-machine exclude each other", "firstboot bake --root %s", h.Root())
	case f.noConfig && len(files) > 0:
		return usage("--config and --no-config exclude each other", "omit one of them")
	case f.bundle != "" && f.noBundle:
		return usage("--bundle and --no-bundle exclude each other", "omit one of them")
	}
	return nil
}

func (c *cli) doBake(ctx context.Context, f bakeFlags) error {
	h := host.New(c.root, host.Offline())
	if err := f.validate(h, c.files); err != nil {
		return err
	}
	plan, err := c.newBake(h, f).Plan(ctx)
	if _, invalid := config.IsInvalid(err); invalid && len(c.files) == 0 && !c.json() {
		fmt.Fprintln(c.errs, "firstboot: hint: add --config FILE, or --no-config if the configuration comes later")
	}
	if err != nil {
		return configError(err)
	}
	if os.Geteuid() != 0 {
		plan.Warnings = append(plan.Warnings, fmt.Sprintf("not root: the files will belong to user %d", os.Geteuid()))
	}
	c.warn(plan.Warnings)
	if f.plan {
		return c.printBakePlan(plan)
	}
	for _, change := range plan.Changes {
		if err := change.Apply(ctx); err != nil {
			return err
		}
		if !c.json() {
			fmt.Fprintf(c.out, "%-6s %s%s\n", change.Action, change.Path, sizeText(change))
		}
	}
	if c.json() {
		return c.printJSON(plan)
	}
	if len(plan.Changes) == 0 {
		fmt.Fprintf(c.out, "nothing to do: %s is already baked\n", c.root)
		return nil
	}
	fmt.Fprintf(c.out, "baked %s: %s; seal it before cloning: firstboot seal --root %s\n", c.root, count(len(plan.Changes), "change"), c.root)
	return nil
}

// configError makes an invalid configuration exit 3.
func configError(err error) error {
	if _, invalid := config.IsInvalid(err); invalid {
		return &app.ConfigError{Err: err}
	}
	return err
}

// newBake returns the bake of h with the artifacts and files of the stages.
func (c *cli) newBake(h *host.Host, f bakeFlags) *golden.Bake {
	var bundles []string
	for _, dir := range stages.BundleDirs() {
		bundles = append(bundles, h.RealPath(dir))
	}
	return &golden.Bake{
		Host: h, Binary: f.binary, Config: c.files, NoConfig: f.noConfig,
		Files: earlyFiles, BundleDirs: stages.BundleDirs(), Artifacts: configuredArtifacts, Bundle: f.bundle, NoBundle: f.noBundle,
		Collect: func(ctx context.Context, conf *config.Config) (golden.Collection, error) {
			collector := c.newCollector(h, conf, bundles[0], bundles...)
			collector.Artifacts = golden.Pinned(collector.Artifacts)
			return collector.Collect(ctx)
		},
	}
}

// earlyFiles are the files that other programs read at boot, before a stage can
// write them.
func earlyFiles(conf *config.Config, h *host.Host) ([]golden.File, error) {
	list, err := stages.ImageFiles(conf, h)
	var files []golden.File
	for _, f := range list {
		files = append(files, golden.File{Path: f.Path, Data: f.Data, Mode: f.Mode})
	}
	return files, err
}

func (c *cli) printBakePlan(p *golden.Plan) error {
	if c.json() {
		if err := c.printJSON(p); err != nil {
			return err
		}
	} else {
		for _, change := range p.Changes {
			fmt.Fprintf(c.out, "would %-6s %s%s: %s\n%s", change.Action, change.Path, sizeText(change), change.Actual, change.Diff)
		}
		fmt.Fprintf(c.out, "%s in %s\n", count(len(p.Changes), "change"), c.root)
	}
	if len(p.Changes) > 0 {
		return exitWith(app.ExitPending)
	}
	return nil
}

func sizeText(change golden.Change) string {
	if change.Size == 0 {
		return ""
	}
	return " (" + report.Bytes(change.Size) + ")"
}
