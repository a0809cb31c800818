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

// access holds what is needed to log in to the hosts of a running lab. It is
// stored in the lab's directory.
type access struct {
	Namespace string            `json:"namespace"`
	Key       string            `json:"key"`
	Hosts     map[string]string `json:"hosts"` // name → address
}

const accessFile = "access.json"

func labsDir() string { return filepath.Join(cache.Open(nil).Dir, "labs") }

// writeAccess writes the access file, which Shell reads in another process.
func (l *Lab) writeAccess() error {
	a := access{Namespace: l.Net.Namespace, Key: l.keyPath, Hosts: map[string]string{}}
	for _, h := range l.Hosts {
		a.Hosts[h.Name] = h.Address.String()
	}
	data, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(l.Dir, accessFile), data, 0o644)
}

// Shell returns a command that opens a shell on a host of a running lab.
func Shell(name, host string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(labsDir(), name, accessFile))
	if err != nil {
		return nil, fmt.Errorf("lab %s is not running: %w", name, err)
	}
	var a access
	if err := json.Unmarshal(data, &a); err != nil {
		return nil, fmt.Errorf("cannot read %s of the lab %s: %w", accessFile, name, err)
	}
	address, ok := a.Hosts[host]
	if !ok {
		return nil, fmt.Errorf("the lab %s has no host %q", name, host)
	}
	ip, err := exec.LookPath("ip")
	if err != nil {
		return nil, fmt.Errorf("cannot enter the lab's network namespace: %w", err)
	}
	// The host generated its key at its first boot, on an isolated network.
	// There is no known key to compare it with.
	return []string{ip, "netns", "exec", a.Namespace, "ssh", "-i", a.Key, "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "root@" + address}, nil
}

// Stop stops and removes a lab that was kept, or that a killed process left behind.
func Stop(name string) error { return stopIn(labsDir(), name) }

func stopIn(labs, name string) error {
	if _, err := os.Stat(filepath.Join(labs, name)); err != nil {
		return fmt.Errorf("lab %s is not running", name)
	}
	all, err := lockFile(filepath.Join(labs, allLabs+lockSuffix), unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer all.Close()
	w, err := lockWorkspace(labs, name)
	if err != nil {
		return err
	}
	return w.removeLocked()
}
