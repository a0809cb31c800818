package pxe

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/projecteru2/firstboot/images"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/secret"
)

// This file checks kernel arguments. Every user of a host can read them, and so can
// everyone who can reach the boot server.

// valuePrefix begins the kernel arguments that set values of the configuration.
const valuePrefix = "firstboot."

// cutValue returns the key and the value of an argument that sets a value of the
// configuration.
func cutValue(arg string) (key, value string, ok bool) {
	rest, ok := strings.CutPrefix(arg, valuePrefix)
	key, value, _ = strings.Cut(rest, "=")
	return key, value, ok
}

// valueArgs returns the kernel arguments that set values.
func valueArgs(values map[string]string) []string {
	var args []string
	for _, key := range slices.Sorted(maps.Keys(values)) {
		args = append(args, valuePrefix+key+"="+values[key])
	}
	return args
}

// checkValue returns why a value of the configuration cannot be a kernel argument, and
// a hint; "" if it can.
func checkValue(key, value string) (message, hint string) {
	switch {
	case key == "":
		return "needs a key", "write firstboot.KEY=VALUE"
	case strings.Contains(key, "environment"):
		return "may be a secret, and every user can read the kernel command line", "set it in the configuration"
	case key == "host.name":
		return "cannot be set here", "set name in the list of hosts"
	case key == "config", strings.HasPrefix(key, "config."), strings.HasPrefix(key, "install."):
		return "cannot be set here", "render pxe sets it"
	case hasPassword(value):
		return "contains a password, and every user can read the kernel command line", "set it in the configuration"
	}
	return "", ""
}

// commonValues separates the values of the configuration from the kernel arguments for
// every host.
func (o Options) commonValues() (values map[string]string, args []string, err error) {
	values = map[string]string{}
	for _, arg := range o.Args {
		key, value, isValue := cutValue(arg)
		if !isValue {
			args = append(args, arg)
			continue
		}
		_, twice := values[key]
		message, hint := checkValue(key, value)
		switch {
		case message != "":
			return nil, nil, engine.WithHint(fmt.Errorf("cannot use --arg %s: it %s", valuePrefix+images.Truncate(key), message), "%s", hint)
		case twice:
			return nil, nil, fmt.Errorf("cannot use --arg %s: it is given twice", valuePrefix+images.Truncate(key))
		case !strings.Contains(arg, "="):
			return nil, nil, engine.WithHint(fmt.Errorf("cannot use --arg %s: it needs a value", valuePrefix+images.Truncate(key)), "write firstboot.KEY=VALUE")
		}
		values[key] = value
	}
	for _, h := range o.Hosts {
		for key := range values {
			if _, twice := h.Values[key]; twice {
				return nil, nil, engine.WithHint(fmt.Errorf("cannot use --arg %s: the list of hosts sets it for %s", valuePrefix+key, h.label()),
					"set it for every host in the list, or in --arg only")
			}
		}
	}
	return values, args, nil
}

// checkArg reports an error unless a person may give the kernel argument.
func checkArg(arg string) error {
	name, value, _ := strings.Cut(arg, "=")
	switch {
	case arg == "--":
		return fmt.Errorf("cannot use the kernel argument %q: the kernel ignores the arguments after it", arg)
	case name == "systemd.hostname":
		return engine.WithHint(fmt.Errorf("cannot use the kernel argument %q: it would override the name of the host", name), "set name in the list of hosts")
	case strings.HasPrefix(name, "systemd.set_credential") && strings.HasPrefix(value, valuePrefix):
		return engine.WithHint(fmt.Errorf("cannot use the kernel argument %q: it would override the configuration", name), "set it in the configuration")
	}
	return checkWord(arg)
}

// checkWord reports an error unless arg is one kernel argument in an iPXE script. A
// value with spaces is quoted with "…", as the kernel requires.
func checkWord(arg string) error {
	name, value, ok := strings.Cut(arg, "=") // the value may be a secret
	if hasPassword(arg) {
		return fmt.Errorf("cannot use the kernel argument %q: %w", images.Truncate(name), errPassword)
	}
	plain := arg
	if ok && len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
		plain = name + strings.ReplaceAll(value[1:len(value)-1], " ", "")
	}
	if arg == "" || hasSpecial(plain) {
		return engine.WithHint(fmt.Errorf("cannot use the kernel argument %q: it contains a character that cannot be quoted", images.Truncate(name)), `write NAME=VALUE, or NAME="VALUE WITH SPACES"`)
	}
	return checkSettings(name, arg)
}

// setting matches one use of an iPXE setting, such as ${net0/mac:hexhyp}.
var setting = regexp.MustCompile(`^\$\{(?:(?:net|smbios|pci|cpuid)[0-9X]*(?:\.[a-z0-9]+)?/)?([a-z0-9.-]+)(?::[a-z0-9]+)?\}`)

// hostSettings lists the settings that iPXE has for each host (ipxe.org/cfg). It
// replaces any other by nothing.
func hostSettings() []string {
	return []string{
		"mac", "ip", "ip6", "netmask", "gateway", "dns", "domain", "hostname", "next-server", "busid", "chip", "bustype",
		"uuid", "serial", "asset", "manufacturer", "product", "board-serial", "buildarch", "platform", "cpumodel", "cpuvendor", "memsize",
	}
}

// checkSettings reports an error if text contains ${…} that iPXE does not replace by a
// value of the host. name names the text in the error.
func checkSettings(name, text string) error {
	for at := strings.Index(text, "${"); at >= 0; at = strings.Index(text, "${") {
		text = text[at:]
		m := setting.FindStringSubmatch(text)
		if m == nil || !slices.Contains(hostSettings(), m[1]) {
			return engine.WithHint(fmt.Errorf("cannot use %q: iPXE replaces ${…} in it, and knows no such setting", images.Truncate(name)), "such as ${mac}, ${net0/mac:hexhyp}, ${uuid} or ${serial}")
		}
		text = text[len(m[0]):]
	}
	return nil
}

// secretsOf returns the secrets of the URL in a kernel argument: its query, and for the
// address of a report also the names in its path, unless they are short.
func secretsOf(key, value string) []string {
	if !strings.Contains(value, "://") {
		return nil
	}
	all := secret.URL(value).Secrets()
	if key != "report.url" {
		return all
	}
	for _, s := range secret.Webhook(value).Secrets() {
		if !strings.Contains(s, "/") && !strings.Contains(s, "${") {
			all = append(all, s)
		}
	}
	return all
}
