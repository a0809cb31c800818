package main

import (
	"fmt"
	"io"

	"github.com/projecteru2/firstboot/images/golden"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/provision"
)

func (a *app) listTraces(out io.Writer, traces []golden.Trace) {
	for _, t := range traces {
		fmt.Fprintf(out, "%-6s %-17s %s: %s\n", t.Action, t.Name, t.Path, t.Why)
	}
}

// showTraces is seal --check and seal --plan.
func (a *app) showTraces(h *host.Host, f sealFlags, traces []golden.Trace) error {
	keys, err := golden.HostKeys(h)
	if err != nil {
		return readableAs(err)
	}
	if f.check {
		keys = nil
	}
	if a.json() {
		err = a.print(sealed{Root: a.root, Sealed: len(traces) == 0, Removed: []golden.Trace{}, Left: traces, Added: append([]golden.Change{}, keys...)})
	} else {
		err = a.tellTraces(f, traces, keys)
	}
	switch {
	case err != nil || len(traces) == 0 && len(keys) == 0:
		return err
	case f.plan:
		return end(provision.ExitPending)
	}
	return end(provision.ExitFailed)
}

func (a *app) tellTraces(f sealFlags, traces []golden.Trace, keys []golden.Change) error {
	a.listTraces(a.out, traces)
	for _, c := range keys {
		fmt.Fprintf(a.out, "%-6s %-17s %s: nothing in the image makes SSH host keys at boot\n", c.Action, "ssh-host-keys", c.Path)
	}
	text := "nothing of one machine is left in " + a.root
	switch {
	case len(traces) > 0 && f.check:
		text = fmt.Sprintf("%s left in %s; %s removes what can be removed", count(len(traces), "trace"), a.root, a.sealCommand())
	case len(traces)+len(keys) > 0:
		text = fmt.Sprintf("%s in %s", count(len(traces)+len(keys), "change"), a.root)
	}
	_, err := fmt.Fprintln(a.out, text)
	return err
}

func (a *app) sealCommand() string {
	if a.root == "/" {
		return "firstboot seal"
	}
	return "firstboot seal --root " + a.root
}

// showSealed says what a seal did.
func (a *app) showSealed(h *host.Host, r sealed, err error) error {
	if a.json() {
		if shown := a.print(r); shown != nil {
			return shown
		}
		if !r.Sealed {
			return end(provision.ExitFailed)
		}
		return nil
	}
	a.listTraces(a.out, r.Removed)
	for _, c := range r.Added {
		fmt.Fprintf(a.out, "%-6s %-17s %s: nothing in the image makes SSH host keys at boot\n", c.Action, "ssh-host-keys", c.Path)
	}
	if !r.Sealed {
		if err == nil {
			a.listTraces(a.errs, r.Left)
			err = fmt.Errorf("%s left in %s", count(len(r.Left), "trace"), a.root)
		}
		return fmt.Errorf("not sealed: %w", err)
	}
	fmt.Fprintf(a.out, "sealed %s: %s removed\n", a.root, count(len(r.Removed), "trace"))
	if h.Live() {
		fmt.Fprintln(a.out, "power off now: what still runs makes such things anew, and systemd saves a random seed at shutdown;\nprove the captured disk with: firstboot seal --check --root DIR")
	}
	return nil
}
