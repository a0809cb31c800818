package labnet

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/projecteru2/firstboot/test/lab/procs"
)

// Start starts a process in the network. It ends with the lab.
func (n *Network) Start(name string, cmd *exec.Cmd) (*procs.Process, error) {
	return n.group.Start(name, cmd)
}

// Dnsmasq starts a real dnsmasq (DHCP and TFTP, no DNS) with this configuration,
// and returns the path of its log. Its files are in dir.
func (n *Network) Dnsmasq(dir, config string) (log string, err error) {
	path, err := exec.LookPath("dnsmasq")
	if err != nil {
		return "", fmt.Errorf("cannot start dnsmasq: %w (Debian: dnsmasq-base)", err)
	}
	file := func(name string) string { return filepath.Join(dir, "dnsmasq."+name) }
	if err := os.WriteFile(file("conf"), []byte(config), 0o644); err != nil {
		return "", fmt.Errorf("cannot start dnsmasq: %w", err)
	}
	if output, err := exec.Command(path, "--test", "--conf-file="+file("conf")).CombinedOutput(); err != nil {
		return "", fmt.Errorf("cannot start dnsmasq: %w: %s", err, output)
	}
	out, err := os.Create(file("log"))
	if err != nil {
		return "", fmt.Errorf("cannot start dnsmasq: %w", err)
	}
	defer out.Close()
	// --user=root: the lab's directory is only accessible to root.
	cmd := exec.Command(path, "--conf-file="+file("conf"), "--keep-in-foreground", "--log-facility=-", "--log-dhcp", "--port=0",
		"--user=root", "--pid-file=", "--dhcp-leasefile="+file("leases"), "--interface="+bridgeName, "--bind-interfaces")
	cmd.Stdout, cmd.Stderr = out, out
	_, err = n.Start("dnsmasq", cmd)
	return out.Name(), err
}
