package pxe

import (
	"fmt"
	"strings"
)

// entryScript is what DHCP names. It knows which hosts have a script of their
// own: iPXE does not tell a script that is not there from a server that fails
// at the moment, and a host that fell through to the default would become
// something else than it should, its disk written perhaps. So each host asks
// for the one script that is its own until it gets it, and for this one anew
// meanwhile, since the list may have changed.
func entryScript(url string, hosts []Host) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "#!ipxe\n# Made by firstboot render pxe: every host has one script, and waits for that.\nset base %s\n", strings.TrimSuffix(url, "/"))
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
echo cannot boot: ${base}/${script} cannot be had, and this host boots nothing else
echo trying again in 30 s; press a key for a shell
prompt --timeout 30000 && shell ||
isset ${ip} || dhcp ||
chain --replace ${base}/boot.ipxe ||
goto boot
`, prefix)
	return []byte(b.String())
}

// hostScript boots one host. It never returns: whatever it cannot load must
// not let the host fall through to another host's values.
func hostScript(o Options, h Host, args []string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "#!ipxe\n# Made by firstboot render pxe, for %s.\n:again\n", h.label())
	fmt.Fprintf(&b, "kernel %s %s || goto failed\n", o.at(o.Kernel), strings.Join(args, " "))
	for _, name := range o.Initrd {
		fmt.Fprintf(&b, "initrd --name %s %s || goto failed\n", base(name), o.at(name))
	}
	b.WriteString(`boot || goto failed
:failed
echo cannot boot: trying again in 30 s; press a key for a shell
imgfree
prompt --timeout 30000 && shell ||
goto again
`)
	return []byte(b.String())
}
