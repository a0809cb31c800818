package pxe

import (
	"fmt"
	"strings"
)

// entryScript is what DHCP names: it finds the host's own script. Its last
// line is reached only where the server has neither.
func entryScript(url string) []byte {
	return fmt.Appendf(nil, `#!ipxe
# Made by firstboot render pxe. The first script that there is boots the host.
set base %s
isset ${ip} || dhcp ||
chain --replace ${base}/hosts/%smac-${mac:hexhyp}.ipxe ||
chain --replace ${base}/hosts/%suuid-${uuid}.ipxe ||
chain --replace ${base}/hosts/%sdefault.ipxe ||
echo cannot boot: ${base}/hosts has no script for this host
echo trying again in 30 s; press a key for a shell
prompt --timeout 30000 && shell ||
reboot
`, strings.TrimSuffix(url, "/"), prefix, prefix, prefix)
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
