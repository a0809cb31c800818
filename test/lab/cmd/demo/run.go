package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/projecteru2/firstboot/test/lab"
)

// joinTimeout limits the time from power-on to completion. Two machines under TCG
// on two cores need about two minutes.
const joinTimeout = 15 * time.Minute

// run runs the demo. It always removes the lab, unless KEEP=1 is set.
func run(ctx context.Context, s settings) (err error) {
	out := newScreen(os.Stdout)
	out.title("Preparing (the first time takes about ten minutes, later runs use the cache)")
	if err := installPackages(ctx); err != nil {
		return err
	}
	l, err := lab.New(ctx, lab.Options{
		Name: labName, Hosts: s.hosts, Debian: s.cluster.debian, Etcd: s.cluster.etcd,
		Parts: s.parts, Firstboot: s.firstboot, Keep: s.keep, Log: out.step,
	})
	if err != nil {
		return err
	}
	keep := false
	defer func() {
		if keep {
			err = errors.Join(err, l.Detach())
			return
		}
		err = errors.Join(err, l.Close())
	}()
	err = show(ctx, l, s.cluster, out)
	if err != nil && ctx.Err() == nil {
		report(l, out)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted; the lab was removed: %w", context.Cause(ctx))
	}
	if s.keep { // also after a failure, so that it can be examined
		keep = true
		out.kept(l)
	}
	return err
}

// installPackages installs the Debian packages that the lab needs.
func installPackages(ctx context.Context) error {
	root, err := lab.ModuleDir(ctx)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(root, "test/lab/install-packages.sh"))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("cannot install the packages that the lab needs: %w", err)
	}
	return nil
}

// report prints the logs of the hosts after a failure.
func report(l *lab.Lab, out *screen) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	dir, text := l.Diagnostics(ctx, "demo")
	out.title("Logs of the hosts")
	out.plain(text)
	out.plain("All logs are in " + dir + "\n")
}

// show boots the machines, waits until they are complete, and tests the network.
func show(ctx context.Context, l *lab.Lab, c cluster, out *screen) error {
	out.title(fmt.Sprintf("Power on: %d machines (%s), bare except for firstboot", len(l.Hosts), l.Accel))
	start := time.Now()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	for _, h := range l.Hosts {
		go out.follow(watching, h, start, len(l.Hosts))
	}
	for i, wave := range c.waves(len(l.Hosts)) {
		if i > 0 {
			out.title("The hosts with a global network are complete. Power on: the hosts with a local network")
		}
		if err := join(ctx, l, wave); err != nil {
			return err
		}
	}
	joined := time.Since(start)
	stop()
	if err := showMembers(ctx, l, out); err != nil {
		return err
	}
	if err := showContainers(ctx, l, out); err != nil {
		return err
	}
	out.title("Done")
	out.plain(fmt.Sprintf("  power-on to complete, all hosts    %s\n", joined.Round(time.Second)))
	out.plain(fmt.Sprintf("  power-on to pings between hosts    %s\n", time.Since(start).Round(time.Second)))
	return nil
}

// join boots hosts and waits until firstboot reports that all are complete.
func join(ctx context.Context, l *lab.Lab, hosts []int) error {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	return l.Each(func(h *lab.Host) error {
		if !slices.Contains(hosts, slices.Index(l.Hosts, h)) {
			return nil
		}
		if err := h.Boot(ctx); err != nil {
			return err
		}
		return h.WaitComplete(ctx)
	})
}
