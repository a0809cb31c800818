package labnet

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/projecteru2/firstboot/test/lab/procs"
)

// Start starts a process on the wire; it ends with the lab.
func (n *Network) Start(name string, cmd *exec.Cmd) (*procs.Process, error) {
	return n.group.Start(name, cmd)
}

// Dnsmasq starts a real dnsmasq (DHCP and TFTP, no DNS) with this
// configuration on the wire, and returns the path of what it says. Its files
// are kept under dir.
func (n *Network) Dnsmasq(dir, config string) (log string, err error) {
	path, err := exec.LookPath("dnsmasq")
	if err != nil {
		return "", fmt.Errorf("cannot start dnsmasq: %w (Debian: dnsmasq-base)", err)
	}
	at := func(name string) string { return filepath.Join(dir, "dnsmasq."+name) }
	if err := os.WriteFile(at("conf"), []byte(config), 0o644); err != nil {
		return "", fmt.Errorf("cannot start dnsmasq: %w", err)
	}
	if said, err := exec.Command(path, "--test", "--conf-file="+at("conf")).CombinedOutput(); err != nil {
		return "", fmt.Errorf("cannot start dnsmasq: %w: %s", err, said)
	}
	out, err := os.Create(at("log"))
	if err != nil {
		return "", fmt.Errorf("cannot start dnsmasq: %w", err)
	}
	defer out.Close()
	// As root: what it serves and its leases are in a folder of the lab's own.
	cmd := exec.Command(path, "--conf-file="+at("conf"), "--keep-in-foreground", "--log-facility=-", "--log-dhcp", "--port=0",
		"--user=root", "--pid-file=", "--dhcp-leasefile="+at("leases"), "--interface="+bridgeName, "--bind-interfaces")
	cmd.Stdout, cmd.Stderr = out, out
	_, err = n.Start("dnsmasq", cmd)
	return out.Name(), err
}
