package pxe

import (
	"fmt"
	"strings"
)

// entryScript returns boot.ipxe, the script that DHCP names. It lists the hosts that
// have their own script, because iPXE cannot distinguish a missing script from a
// failing server. A host that continued with the default script would get the wrong
// configuration, and its disk might be overwritten. So each host requests its one
// script until it gets it. It also loads boot.ipxe again, since the list of hosts may
// have changed.
func entryScript(url string, hosts []Host) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "#!ipxe\n# Written by firstboot render pxe. Each host boots from one script and waits for it.\nset base %s\n", strings.TrimSuffix(url, "/"))
	b.WriteString("isset ${ip} || dhcp ||\n")
	for _, h := range hosts {
		switch {
		case h.MAC != "":
			fmt.Fprintf(&b, "iseq ${mac} %s && goto mac ||\n", h.MAC)
		case h.UUID != "":
			fmt.Fprintf(&b, "iseq ${uuid} %s && goto uuid ||\n", h.UUID)
		}
	}
	fmt.Fprintf(&b, `set script hosts/%[1]sdefault.ipxe
goto boot
:mac
set script hosts/%[1]smac-${mac:hexhyp}.ipxe
goto boot
:uuid
set script hosts/%[1]suuid-${uuid}.ipxe
:boot
chain --replace ${base}/${script} ||
echo cannot load ${base}/${script}, the only script for this host
echo next attempt in 30 s; press a key for a shell
prompt --timeout 30000 && shell ||
isset ${ip} || dhcp ||
chain --replace ${base}/boot.ipxe ||
goto boot
`, prefix)
	return []byte(b.String())
}

// hostScript returns the script that boots one host. It never exits: a host that
// cannot load a file must not continue with another host's values.
func hostScript(o Options, h Host, args []string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "#!ipxe\n# Written by firstboot render pxe, for %s.\n:again\n", h.label())
	fmt.Fprintf(&b, "kernel %s %s || goto failed\n", o.url(o.Kernel), strings.Join(args, " "))
	for _, name := range o.Initrd {
		fmt.Fprintf(&b, "initrd --name %s %s || goto failed\n", baseName(name), o.url(name))
	}
	b.WriteString(`boot || goto failed
:failed
echo cannot boot: next attempt in 30 s; press a key for a shell
imgfree
prompt --timeout 30000 && shell ||
goto again
`)
	return []byte(b.String())
}
