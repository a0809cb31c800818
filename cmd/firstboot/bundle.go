package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/images/golden"
	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/calico"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/report"
	"github.com/projecteru2/firstboot/internal/web"
	"github.com/projecteru2/firstboot/stages"
)

// bundleFlags are the flags of bundle.
type bundleFlags struct {
	dir   string
	arch  string
	lock  bool
	write bool
}

func (c *cli) bundle() *cobra.Command {
	var f bundleFlags
	cmd := &cobra.Command{
		Use:   "bundle [--dir DIR] [--lock [--write]]",
		Short: "Fetch and verify all artifacts for offline hosts",
		Long: `Fetches and verifies every artifact in the configuration and writes them to a
bundle: a directory with sha256/DIGEST files and manifest.json. A host takes its
artifacts from a bundle in /usr/lib/firstboot/bundle or /var/lib/firstboot/bundle.

With --lock the configuration may lack digests. bundle computes them from the
fetched files and prints the new configuration, or with --write updates the files.

A file that is not a calicoctl, an image archive or an eru-minions package for the
hosts' architecture, or is of another version than the configuration's, is refused,
and nothing is written. To get calicoctl's version, bundle runs it.`,
		Example: "  firstboot bundle --config my.yaml --dir bundle\n  firstboot bundle --config my.yaml --lock --write\n  firstboot bundle --root /mnt/image",
		Annotations: codes("0    the bundle is complete", "1    an artifact cannot be fetched or verified", "2    usage error",
			"3    the configuration is invalid, or cannot be read", "130  interrupted"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := app.NotifyContext(cmd.Context())
			defer stop()
			return c.doBundle(ctx, f)
		},
	}
	cmd.Flags().StringVar(&f.dir, "dir", "", "write the bundle to `DIR` (default \"firstboot-bundle\", with --root /usr/lib/firstboot/bundle in the image)")
	cmd.Flags().StringVar(&f.arch, "arch", "", "the hosts' `ARCHITECTURE`: amd64 or arm64 (default: the image's with --root, else this machine's)")
	cmd.Flags().BoolVar(&f.lock, "lock", false, "set sha256 where the configuration has a url without sha256")
	cmd.Flags().BoolVar(&f.write, "write", false, "with --lock: update the configuration files")
	return cmd
}

// bundleResult is what bundle prints as JSON.
type bundleResult struct {
	Dir       string           `json:"dir"`
	Artifacts []artifact.Entry `json:"artifacts"`
	Skipped   []golden.Skipped `json:"skipped"`
	Warnings  []string         `json:"warnings"`
	Locked    []golden.Pin     `json:"locked,omitempty"`
}

func (c *cli) doBundle(ctx context.Context, f bundleFlags) error {
	if f.write && !f.lock {
		return &app.UsageError{Err: hint(errors.New("--write needs --lock"), "firstboot bundle --lock --write")}
	}
	h := host.New(c.root)
	arch, err := hostArchitecture(h, f.arch)
	if err != nil {
		return &app.UsageError{Err: err}
	}
	loaded, err := c.imageConfig(ctx, f.lock)
	if err != nil {
		if _, other := c.imageConfig(ctx, true); other == nil && !c.json() {
			fmt.Fprintln(c.errs, "firstboot: hint: firstboot bundle --lock computes the missing digests")
		}
		return err
	}
	dir := f.dir
	switch {
	case dir == "" && h.Live():
		dir = "firstboot-bundle"
	case dir == "":
		dir = h.RealPath(stages.BundleDirs()[0])
	}
	if err := golden.CreateDownloadDir(dir); err != nil {
		return withPermissionHint(err, "name a directory that you may write to with --dir, or run firstboot bundle as root")
	}
	collector := c.newCollector(h, loaded.Config, dir, dir)
	collector.Locking, collector.Architecture = f.lock, arch
	all, err := collector.Collect(ctx)
	if refused := new(golden.RefusedError); errors.As(err, &refused) {
		golden.Discard(dir)
	}
	if err != nil {
		golden.DiscardEmpty(dir)
		return err
	}
	b, err := golden.Pack(ctx, dir, all.Items)
	if err != nil {
		return err
	}
	out := bundleResult{Dir: dir, Artifacts: b.Entries, Skipped: append([]golden.Skipped{}, all.Skipped...), Warnings: append([]string{}, all.Warnings...)}
	if f.lock {
		return c.lock(ctx, h, loaded, collector.Artifacts, b, out, f.write)
	}
	return c.printBundle(out)
}

// hostArchitecture returns the architecture that a bundle's programs must have.
func hostArchitecture(h *host.Host, flag string) (string, error) {
	if flag == "" && !h.Live() {
		return golden.ImageArchitecture(h), nil
	}
	name := flag
	if name == "" {
		name = runtime.GOARCH
	}
	arch, ok := golden.Architecture(name)
	if !ok && flag != "" {
		return "", hint(fmt.Errorf("unknown architecture %q", flag), "use --arch amd64 or --arch arm64")
	}
	return arch, nil
}

// imageConfig loads the configuration for an image, without the kernel command
// line of this machine.
func (c *cli) imageConfig(ctx context.Context, unpinned bool) (*config.Loaded, error) {
	loaded, err := config.Load(ctx, config.Options{Root: c.root, Files: c.files, NoCmdline: true, Unpinned: unpinned})
	if err != nil {
		return nil, &app.ConfigError{Err: err}
	}
	return loaded, nil
}

// newCollector returns a collector that fetches into dir what none of the
// bundles has.
func (c *cli) newCollector(h *host.Host, conf *config.Config, dir string, bundles ...string) *golden.Collector {
	progress := func(line string) { fmt.Fprintln(c.errs, "firstboot: "+line) }
	return &golden.Collector{
		Config: conf, Artifacts: configuredArtifacts(conf), KeyPath: h.RealPath, Progress: progress,
		Architecture: golden.ImageArchitecture(h),
		CalicoctlVersion: func(ctx context.Context, path string) (string, error) {
			return calico.CtlVersion(ctx, host.New("/"), path)
		},
		Store: artifact.NewStore(artifact.Options{
			Cache: golden.DownloadDir(dir), Bundles: bundles, Log: progress,
			Proxy: web.Proxy(conf.Proxy.HTTP.Reveal(), conf.Proxy.HTTPS.Reveal(), conf.Proxy.No),
		}),
	}
}

// printBundle prints the artifacts in the bundle and those that it lacks.
func (c *cli) printBundle(b bundleResult) error {
	if c.json() {
		return c.printJSON(b)
	}
	var total int64
	for _, e := range b.Artifacts {
		total += e.Size
		if _, err := fmt.Fprintf(c.out, "%-12s %-14s %8s  sha256:%s\n", e.Name, e.Version, report.Bytes(e.Size), e.SHA256); err != nil {
			return err
		}
	}
	for _, s := range b.Skipped {
		fmt.Fprintf(c.out, "%-12s not in the bundle: %s\n", s.Name, s.Why)
	}
	c.warn(b.Warnings)
	_, err := fmt.Fprintf(c.out, "%s, %s, in %s\n", count(len(b.Artifacts), "artifact"), report.Bytes(total), b.Dir)
	return err
}

func (c *cli) warn(warnings []string) {
	for _, w := range warnings {
		fmt.Fprintln(c.errs, "firstboot: warning: "+w)
	}
}

// count formats a number of things for people.
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
