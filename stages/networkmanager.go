package stages

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
)

const (
	networkManagerUnit = "NetworkManager.service"
	networkManagerDir  = "/etc/NetworkManager"
	networkManagerConf = networkManagerDir + "/conf.d"
	networkManagerPath = networkManagerConf + "/90-firstboot-calico.conf"
)

// networkManagerFile adds Calico's interfaces to the list of those that
// NetworkManager leaves alone. Without += it would replace the list of the
// distribution or of the operator, and NetworkManager would take over the host's
// interfaces.
const networkManagerFile = host.FileHeader + `[keyfile]
unmanaged-devices+=interface-name:cali*;interface-name:tunl*
`

// managerDevices are the items that networkManagerFile adds.
func managerDevices() []string { return []string{"interface-name:cali*", "interface-name:tunl*"} }

// managerSetting returns the values of the key unmanaged-devices in one of
// NetworkManager's files by the operator: "" (=), "+" or "-".
func managerSetting(data string) map[string]string {
	values, section := map[string]string{}, ""
	for line := range strings.Lines(data) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = line
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if operator, is := strings.CutPrefix(strings.TrimSpace(key), "unmanaged-devices"); ok && is && section == "[keyfile]" && len(operator) < 2 {
			values[operator] = strings.TrimSpace(value)
		}
	}
	return values
}

// lacksDevice returns the first of Calico's items that a list lacks, or "".
func lacksDevice(list string) string {
	for _, device := range managerDevices() {
		if !hasDevice(list, device) {
			return device
		}
	}
	return ""
}

func hasDevice(list, device string) bool {
	for item := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == ',' || r == ';' }) {
		if strings.TrimSpace(item) == device {
			return true
		}
	}
	return false
}

// managerOverride returns the file of NetworkManager that is read after
// firstboot's and removes Calico's interfaces from the list, or "".
func managerOverride(h *host.Host) (string, error) {
	names, err := h.ReadDir(networkManagerConf)
	if err != nil {
		return "", err
	}
	overriding := ""
	for _, name := range names { // sorted, as NetworkManager reads them
		if name <= path.Base(networkManagerPath) || !strings.HasSuffix(name, ".conf") {
			continue
		}
		data, err := h.ReadFile(networkManagerConf + "/" + name)
		if err != nil {
			return "", err
		}
		values := managerSetting(string(data))
		removes := false
		for _, device := range managerDevices() {
			removes = removes || hasDevice(values["-"], device)
		}
		switch all, replaces := values[""]; {
		case replaces && lacksDevice(all+";"+values["+"]) != "", removes:
			overriding = networkManagerConf + "/" + name
		case replaces:
			overriding = "" // its list has Calico's interfaces
		}
	}
	return overriding, nil
}

// managerOverrideFix returns what a person can do about a file that
// managerOverride found.
func managerOverrideFix(file string) string {
	return "in " + file + " write unmanaged-devices+= instead of unmanaged-devices=, or add interface-name:cali*;interface-name:tunl* to its list"
}

// managerImageFile returns firstboot's file for NetworkManager, if that is
// installed.
func managerImageFile(h *host.Host) ([]host.File, error) {
	if !h.Exists(networkManagerDir) {
		return nil, nil
	}
	file, err := managerOverride(h)
	if err != nil {
		return nil, err
	}
	if file != "" {
		return nil, engine.WithHint(fmt.Errorf("cannot exclude Calico's interfaces from NetworkManager: %s replaces its list of unmanaged devices", file), "%s", managerOverrideFix(file))
	}
	return []host.File{{Path: networkManagerPath, Data: []byte(networkManagerFile), Mode: 0o644}}, nil
}

// checkManager adds a difference if NetworkManager's own view of its
// configuration lacks Calico's interfaces.
func (s files) checkManager(ctx context.Context, f *engine.CheckResult) {
	program, ok := s.Host.LookPath("NetworkManager")
	if !ok || s.Host.IsOffline() || !s.Host.Exists(networkManagerPath) {
		return
	}
	out, err := s.Host.Query(ctx, host.Command{Name: program, Args: []string{"--print-config"}, Timeout: 20 * time.Second})
	if err != nil {
		f.Warn("cannot check NetworkManager's configuration: %v", err)
		return
	}
	list := managerSetting(string(out.Stdout))[""]
	device := lacksDevice(list)
	if device == "" {
		return
	}
	actual := "unmanaged-devices=" + list
	if list == "" {
		actual = "no unmanaged-devices"
	}
	d := engine.Difference{
		Object: "NetworkManager", Actual: actual, Expected: "a list with " + device,
		Fix: "find the file that replaces the list: grep -r unmanaged-devices /etc/NetworkManager /run/NetworkManager /var/lib/NetworkManager",
	}
	if s.ignores("networkmanager") {
		f.Warn("%s", d)
		return
	}
	f.Add(d)
}
