package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/projecteru2/firstboot/test/lab"
)

// joinTime bounds the way from power-on to a complete host: about two minutes
// for two machines under TCG on two cores, and more for more.
const joinTime = 15 * time.Minute

// run is the demo. The lab is closed whatever happens, but for KEEP=1.
func run(ctx context.Context, s settings) (err error) {
	out := newScreen(os.Stdout)
	out.title("Preparing (the first time this takes about ten minutes; what is built is kept)")
	if err := installPackages(ctx); err != nil {
		return err
	}
	l, err := lab.New(ctx, lab.Options{Name: labName, Hosts: s.hosts, Parts: s.parts, Firstboot: s.firstboot, Keep: s.keep, Log: out.step})
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
	err = show(ctx, l, out)
	if err != nil && ctx.Err() == nil {
		report(l, out)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted, everything is cleaned up: %w", context.Cause(ctx))
	}
	if s.keep { // a failed demo as well: that is when one wants a look
		keep = true
		out.kept(l)
	}
	return err
}

// installPackages installs what the lab needs of Debian's packages.
func installPackages(ctx context.Context) error {
	root, err := lab.ModuleDir(ctx)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(root, "test/lab/install-packages.sh"))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("cannot install what the lab needs: %w", err)
	}
	return nil
}

// report prints what a person needs to find out why the demo failed.
func report(l *lab.Lab, out *screen) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	dir, text := l.Diagnostics(ctx, "demo")
	out.title("What the hosts say")
	out.plain(text)
	out.plain("All of it is kept in " + dir + "\n")
}

// show boots the machines, watches them, and tries what they became.
func show(ctx context.Context, l *lab.Lab, out *screen) error {
	out.title(fmt.Sprintf("Power on: %d machines (%s), bare but for firstboot", len(l.Hosts), l.Accel))
	start := time.Now()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	for _, h := range l.Hosts {
		go out.follow(watching, h, start, len(l.Hosts))
	}
	if err := l.Boot(ctx); err != nil {
		return err
	}
	if err := waitComplete(ctx, l); err != nil {
		return err
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

// waitComplete waits until firstboot says of every host that it is complete.
func waitComplete(ctx context.Context, l *lab.Lab) error {
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	return l.Each(func(h *lab.Host) error { return h.WaitComplete(ctx) })
}
