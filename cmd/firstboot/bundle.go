package main

import (
	"context"
	"fmt"
	"os/signal"
	"syscall"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/images/golden"
	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/stages"
)

// bundleFlags are those of bundle.
type bundleFlags struct {
	dir   string
	lock  bool
	write bool
}

func (c *cli) bundle() *cobra.Command {
	var f bundleFlags
	cmd := &cobra.Command{
		Use:   "bundle [--dir DIR] [--lock [--write]]",
		Short: "Fetch, verify and pack every artifact for offline hosts",
		Long: `Fetches every artifact that the configuration names, verifies it, and packs all
into a folder: sha256/DIGEST files and manifest.json. A host that finds the folder
as /usr/lib/firstboot/bundle or /var/lib/firstboot/bundle takes them from there.

With --lock the configuration may lack sums: they are computed from what was
fetched, and the new configuration is printed, or written back with --write.`,
		Example: "  firstboot bundle --config my.yaml --dir bundle\n  firstboot bundle --config my.yaml --lock --write\n  firstboot bundle --root /mnt/image",
		Annotations: codes("0    packed", "1    an artifact could not be had, or is not the one that is meant", "2    usage",
			"3    the configuration is invalid, or cannot be read", "130  interrupted"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			return c.doBundle(ctx, f)
		},
	}
	cmd.Flags().StringVar(&f.dir, "dir", "", "make the bundle in `DIR` (default \"firstboot-bundle\"; of an image: its /usr/lib/firstboot/bundle)")
	cmd.Flags().BoolVar(&f.lock, "lock", false, "set the sha256 of what has a url and no sha256")
	cmd.Flags().BoolVar(&f.write, "write", false, "with --lock: write the configuration files back")
	return cmd
}

// bundled is bundle's -o json.
type bundled struct {
	Dir       string           `json:"dir"`
	Artifacts []artifact.Entry `json:"artifacts"`
	Skipped   []golden.Skipped `json:"skipped"`
	Warnings  []string         `json:"warnings"`
	Locked    []golden.Pin     `json:"locked,omitempty"`
}

func (c *cli) doBundle(ctx context.Context, f bundleFlags) error {
	if f.write && !f.lock {
		return &app.UsageError{Err: hint(fmt.Errorf("--write has nothing to write"), "firstboot bundle --lock --write")}
	}
	h := host.New(c.root)
	loaded, err := c.imageConfig(ctx, f.lock)
	if err != nil {
		if _, other := c.imageConfig(ctx, true); other == nil && !c.json() {
			fmt.Fprintln(c.errs, "firstboot: hint: firstboot bundle --lock finds out the missing sums")
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
	collector := c.collector(h, loaded.Config, dir, dir)
	collector.Locking = f.lock
	all, err := collector.Collect(ctx)
	if err != nil {
		return err
	}
	b, err := golden.Pack(ctx, dir, all.Items)
	if err != nil {
		return err
	}
	out := bundled{Dir: dir, Artifacts: b.Entries, Skipped: append([]golden.Skipped{}, all.Skipped...), Warnings: append([]string{}, all.Warnings...)}
	if f.lock {
		return c.lock(h, loaded, collector.Artifacts, b, out, f.write)
	}
	return c.showBundle(out)
}

// imageConfig loads the configuration for an image: its command line is not
// that of the machine that makes it.
func (c *cli) imageConfig(ctx context.Context, unpinned bool) (*config.Loaded, error) {
	loaded, err := config.Load(ctx, config.Options{Root: c.root, Files: c.files, NoCmdline: true, Unpinned: unpinned})
	if err != nil {
		return nil, &app.ConfigError{Err: err}
	}
	return loaded, nil
}

// collector fetches into dir; what one of the bundles has is not fetched.
func (c *cli) collector(h *host.Host, conf *config.Config, dir string, bundles ...string) *golden.Collector {
	say := func(line string) { fmt.Fprintln(c.errs, "firstboot: "+line) }
	return &golden.Collector{
		Config: conf, Artifacts: golden.Artifacts(conf, (&stages.Env{Config: conf}).References()), KeyPath: h.RealPath, Progress: say,
		Store: artifact.NewStore(artifact.Options{
			Cache: golden.DownloadDir(dir), Bundles: bundles, Log: say,
			Proxy: artifact.ProxyFunc(conf.Proxy.HTTP.Reveal(), conf.Proxy.HTTPS.Reveal(), conf.Proxy.No),
		}),
	}
}

// showBundle prints what is in the bundle, and what is not.
func (c *cli) showBundle(b bundled) error {
	if c.json() {
		return c.print(b)
	}
	var total int64
	for _, e := range b.Artifacts {
		total += e.Size
		if _, err := fmt.Fprintf(c.out, "%-12s %-14s %8s  sha256:%s\n", e.Name, e.Version, bytesOf(e.Size), e.SHA256); err != nil {
			return err
		}
	}
	for _, s := range b.Skipped {
		fmt.Fprintf(c.out, "%-12s not in the bundle: %s\n", s.Name, s.Why)
	}
	c.warn(b.Warnings)
	_, err := fmt.Fprintf(c.out, "%s, %s, in %s\n", count(len(b.Artifacts), "artifact"), bytesOf(total), b.Dir)
	return err
}

func (c *cli) warn(warnings []string) {
	for _, w := range warnings {
		fmt.Fprintln(c.errs, "firstboot: warning: "+w)
	}
}

// count is a number of things for people.
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func bytesOf(n int64) string { return humanize.Bytes(uint64(max(0, n))) } //nolint:gosec // not negative
