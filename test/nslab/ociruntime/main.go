// Command ociruntime is runc for Docker 20.10 in the namespace lab. A build
// machine's root may lack capabilities. Newer versions of Docker give a privileged
// container those that exist, but 20.10 requests all, and runc then fails. So this
// program removes from a container's configuration what this machine does not have,
// and executes runc.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// runc is Docker 20.10's. This program has its name.
const runc = "/opt/docker/20.10/runc.real"

func main() {
	if err := limit(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "ociruntime:", err)
		os.Exit(1)
	}
	err := syscall.Exec(runc, append([]string{runc}, os.Args[1:]...), os.Environ())
	fmt.Fprintln(os.Stderr, "ociruntime:", err)
	os.Exit(1)
}

// object is a JSON object whose values are kept as they are.
type object = map[string]json.RawMessage

// limit removes missing capabilities from the process that these arguments start:
// create --bundle DIR, or exec --process FILE.
func limit(args []string) error {
	missing, err := missingCapabilities()
	if err != nil || len(missing) == 0 {
		return err
	}
	remove := func(process object) error {
		return change(process, "capabilities", func(sets map[string][]string) error {
			for name, set := range sets {
				sets[name] = slices.DeleteFunc(set, func(c string) bool { return slices.Contains(missing, c) })
			}
			return nil
		})
	}
	if bundle := after(args, "--bundle"); bundle != "" && slices.Contains(args, "create") {
		return changeFile(filepath.Join(bundle, "config.json"), func(config object) error {
			return change(config, "process", remove)
		})
	}
	if file := after(args, "--process"); file != "" && slices.Contains(args, "exec") {
		return changeFile(file, remove)
	}
	return nil
}

// after returns the argument after a flag, or "".
func after(args []string, flag string) string {
	if i := slices.Index(args, flag); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}

// change changes the value of a key, if it has one.
func change[T any](in object, key string, edit func(T) error) error {
	if in[key] == nil {
		return nil
	}
	var value T
	if err := json.Unmarshal(in[key], &value); err != nil {
		return err
	}
	if err := edit(value); err != nil {
		return err
	}
	var err error
	in[key], err = json.Marshal(value)
	return err
}

func changeFile(path string, edit func(object) error) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var all object
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	if err := edit(all); err != nil {
		return err
	}
	if text, err = json.Marshal(all); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// missingCapabilities returns the capabilities that this process cannot pass on.
func missingCapabilities() ([]string, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, err
	}
	_, after, _ := strings.Cut(string(status), "CapBnd:\t")
	line, _, _ := strings.Cut(after, "\n")
	bounding, err := strconv.ParseUint(line, 16, 64)
	if err != nil {
		return nil, err
	}
	var missing []string
	for bit, name := range strings.Fields(capabilities) {
		if bounding&(1<<bit) == 0 {
			missing = append(missing, "CAP_"+name)
		}
	}
	return missing, nil
}

// capabilities lists all names in the order of their bits (capabilities(7)).
const capabilities = `CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO
SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE
AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON
BPF CHECKPOINT_RESTORE`
