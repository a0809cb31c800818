package lab

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/projecteru2/firstboot/test/lab/cache"
)

// doors is what a person needs to get into a lab that was kept, in its file
// doors.json.
type doors struct {
	Namespace string            `json:"namespace"`
	Key       string            `json:"key"`
	Hosts     map[string]string `json:"hosts"` // name → address
}

const doorsFile = "doors.json"

func labsDir() string { return filepath.Join(cache.Open(nil).Dir, "labs") }

// writeDoors says how to get in, for Shell in another process.
func (l *Lab) writeDoors() error {
	d := doors{Namespace: l.Net.Namespace, Key: l.keyPath, Hosts: map[string]string{}}
	for _, h := range l.Hosts {
		d.Hosts[h.Name] = h.Address.String()
	}
	data, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(l.Dir, doorsFile), data, 0o644)
}

// Shell returns the command that is a shell on a host of a lab that runs.
func Shell(name, host string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(labsDir(), name, doorsFile))
	if err != nil {
		return nil, fmt.Errorf("no lab %s runs: %w", name, err)
	}
	var d doors
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, fmt.Errorf("cannot read %s of the lab %s: %w", doorsFile, name, err)
	}
	address, ok := d.Hosts[host]
	if !ok {
		return nil, fmt.Errorf("the lab %s has no host %q", name, host)
	}
	ip, err := exec.LookPath("ip")
	if err != nil {
		return nil, fmt.Errorf("cannot enter the lab's network namespace: %w", err)
	}
	// The host's key was made at its first boot, on a network that leads
	// nowhere: there is nothing to compare it with.
	return []string{ip, "netns", "exec", d.Namespace, "ssh", "-i", d.Key, "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "root@" + address}, nil
}

// Stop ends and removes a lab that was kept, or that a killed run left.
func Stop(name string) error { return stopIn(labsDir(), name) }

func stopIn(labs, name string) error {
	if _, err := os.Stat(filepath.Join(labs, name)); err != nil {
		return fmt.Errorf("no lab %s runs", name)
	}
	all, err := lockFile(filepath.Join(labs, allLabs+lockSuffix), unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer all.Close()
	l, err := hold(labs, name)
	if err != nil {
		return err
	}
	return l.remove()
}
