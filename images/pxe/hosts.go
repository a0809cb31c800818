package pxe

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/projecteru2/firstboot/images"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
)

// Host is a host with its own values, identified by MAC address or UUID. The zero
// Host stands for all hosts that are not listed.
type Host struct {
	MAC    string            // of the network interface that it boots from
	UUID   string            // as reported by the firmware (DMI)
	Name   string            // host name
	Values map[string]string // configuration keys, such as host.address
	Args   []string          // kernel arguments

	at  config.Problem            // where the list names the host
	set map[string]config.Problem // where it sets a value
}

// maxHosts limits a list: all hosts share one directory, with a few files per host.
const maxHosts = 10000

// maxProblems limits the problems of a list that are reported.
const maxProblems = 100

// hostForm is an example of a host.
const hostForm = "such as {mac: 52:54:00:12:34:56, name: web-1}"

// ParseHosts reads a list of hosts: {hosts: [{mac|uuid, name, values, args}]}. name is
// the list's file. An invalid list is an error of type config.Problems, with all
// problems.
func ParseHosts(name string, data []byte) ([]Host, error) {
	l := &list{name: name}
	var hosts []Host
	if body := l.parse(data); body != nil {
		l.mapping(body, "", "begin with hosts:", func(key string, at *token.Token, v ast.Node) {
			if key != "hosts" {
				l.problem(at, "", fmt.Sprintf("unknown key %q", images.Truncate(key)), "write hosts: [{mac: …, name: …}]")
				return
			}
			l.sequence(v, "hosts", hostForm, func(_ int, item ast.Node) { hosts = append(hosts, l.host(item)) })
		})
	}
	if len(hosts) > maxHosts {
		l.problem(nil, "hosts", fmt.Sprintf("has %d hosts, the limit is %d", len(hosts), maxHosts), "")
	}
	l.checkUnique(hosts)
	if len(l.problems) == 0 {
		return hosts, nil
	}
	return nil, l.sorted()
}

// sorted returns the problems in the order of their positions.
func (l *list) sorted() config.Problems {
	slices.SortStableFunc(l.problems, func(a, b config.Problem) int {
		return cmp.Or(a.Line-b.Line, a.Col-b.Col)
	})
	if n := len(l.problems) - maxProblems; n > 0 {
		last := l.problems[maxProblems]
		last.Path, last.Message, last.Hint = "", fmt.Sprintf("and %d more", n), ""
		l.problems = append(l.problems[:maxProblems], last)
	}
	return l.problems
}

// host reads one host.
func (l *list) host(node ast.Node) Host {
	h := Host{Values: map[string]string{}, set: map[string]config.Problem{}, at: l.position(firstToken(node))}
	before := len(l.problems)
	text := func(key string, at *token.Token, v ast.Node, to *string, check func(string) (string, string)) {
		s, ok := l.text(v, key)
		if !ok {
			return
		}
		if message, hint := check(s); message != "" {
			l.problem(at, key, message, hint)
		}
		*to = s
	}
	l.mapping(node, "", hostForm, func(key string, at *token.Token, v ast.Node) {
		switch key {
		case "mac":
			text(key, at, v, &h.MAC, checkMAC)
		case "uuid":
			text(key, at, v, &h.UUID, checkUUID)
		case "name":
			text(key, at, v, &h.Name, config.CheckHostName)
		case "values":
			l.mapping(v, key, "such as {host.address: 10.0.0.11}", func(name string, at *token.Token, v ast.Node) {
				if s, ok := l.text(v, join("values", name)); ok {
					l.value(&h, join("values", name), name, s, at)
				}
			})
		case "args":
			l.sequence(v, key, "such as [console=ttyS1]", func(_ int, item ast.Node) {
				if s, ok := l.text(item, key); ok {
					l.addArgument(&h, s, firstToken(item))
				}
			})
		default:
			l.problem(at, "", fmt.Sprintf("unknown key %q", images.Truncate(key)), "a host has mac or uuid, name, values and args")
		}
	})
	if (h.MAC == "") == (h.UUID == "") && len(l.problems) == before {
		l.problem(firstToken(node), "", "a host needs either a mac or a uuid", "mac: 52:54:00:12:34:56")
	}
	if mac, err := net.ParseMAC(h.MAC); err == nil {
		h.MAC = mac.String() // like iPXE and matchbox
	}
	h.UUID = strings.ToLower(h.UUID)
	return h
}

// value sets one configuration key of a host. path names it in problems.
func (l *list) value(h *Host, path, key, value string, at *token.Token) {
	if _, twice := h.Values[key]; twice {
		l.problem(at, path, "is set twice", "")
		return
	}
	if message, hint := checkValue(key, value); message != "" {
		l.problem(at, path, message, hint)
	} else {
		l.argument(at, path, valuePrefix+key+"="+value)
	}
	h.Values[key], h.set[key] = value, l.position(at)
}

// addArgument adds one kernel argument of a host. Those that set values are checked
// like values.
func (l *list) addArgument(h *Host, arg string, at *token.Token) {
	key, value, isValue := cutValue(arg)
	switch {
	case !isValue:
		l.argument(at, "args", arg)
		h.Args = append(h.Args, arg)
	case !strings.Contains(arg, "="):
		l.problem(at, join("args", valuePrefix+key), "needs a value", "write firstboot.KEY=VALUE")
	default:
		l.value(h, join("args", valuePrefix+key), key, value, at)
	}
}

// argument checks one kernel argument.
func (l *list) argument(at *token.Token, path, arg string) {
	if err := checkArg(arg); err != nil {
		l.problem(at, path, err.Error(), engine.Hint(err))
	}
}

func (l *list) position(at *token.Token) config.Problem {
	one := &list{name: l.name}
	one.problem(at, "", "", "")
	return one.problems[0]
}

// firstToken returns the token where a node begins.
func firstToken(node ast.Node) *token.Token {
	switch n := node.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return n.Values[0].Key.GetToken()
		}
	case *ast.MappingValueNode:
		return n.Key.GetToken()
	}
	return node.GetToken()
}

// checkUnique reports what must not occur twice: MAC addresses, UUIDs, names and
// addresses.
func (l *list) checkUnique(hosts []Host) {
	seen := map[string]config.Problem{}
	unique := func(what, value string, at config.Problem) {
		key := what + " " + value
		first, found := seen[key]
		if !found {
			seen[key] = at
			return
		}
		at.Message = fmt.Sprintf("duplicate %s %s, first on line %d", what, images.Truncate(value), first.Line)
		l.problems = append(l.problems, at)
	}
	for _, h := range hosts {
		if h.MAC != "" {
			unique("MAC address", h.MAC, h.at)
		}
		if h.UUID != "" {
			unique("UUID", h.UUID, h.at)
		}
		if h.Name != "" {
			unique("name", h.Name, h.at)
		}
		if address, err := netip.ParseAddr(h.Values["host.address"]); err == nil {
			unique("host.address", address.Unmap().String(), h.set["host.address"])
		}
	}
}

func checkMAC(s string) (message, hint string) {
	const example = "such as 52:54:00:12:34:56"
	mac, err := net.ParseMAC(s)
	switch {
	case err != nil || len(mac) != 6:
		return fmt.Sprintf("%q is not a MAC address", images.Truncate(s)), example
	case mac[0]&1 != 0:
		return fmt.Sprintf("%q is a multicast or broadcast address, which no interface has", images.Truncate(s)), example
	case !slices.ContainsFunc(mac, func(b byte) bool { return b != 0 }):
		return fmt.Sprintf("%q is not the address of an interface", images.Truncate(s)), example
	}
	return "", ""
}

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// placeholders lists the UUIDs of firmware whose vendor set none: many machines have
// them.
func placeholders() []string {
	return []string{
		"00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff",
		"03000200-0400-0500-0006-000700080009", "00020003-0004-0005-0006-000700080009",
	}
}

func checkUUID(s string) (message, hint string) {
	switch id := strings.ToLower(s); {
	case !uuidForm.MatchString(id):
		return fmt.Sprintf("%q is not a UUID", images.Truncate(s)), "dmidecode -s system-uuid prints it"
	case slices.Contains(placeholders(), id):
		return fmt.Sprintf("%q is not unique: the firmware of many machines has it", s), "identify the host by its mac"
	}
	return "", ""
}

// args returns the kernel arguments that set the host's values.
func (h Host) args() []string {
	var args []string
	if h.Name != "" {
		args = append(args, "systemd.hostname="+h.Name, "firstboot.host.name="+h.Name)
	}
	return append(args, valueArgs(h.Values)...)
}

// effective returns the configuration that the host will load. root is a directory
// with the configuration that all hosts load, and common are kernel arguments that set
// values of all hosts. The error of invalid values is of type config.Problems, with
// their positions in the list.
func (h Host) effective(ctx context.Context, root string, loaded *config.Loaded, common []string) (*config.Loaded, error) {
	args := slices.Concat(common, h.args())
	if len(args) == 0 {
		return loaded, nil
	}
	effective, err := config.Load(ctx, config.Options{Root: root, Cmdline: strings.Join(args, " ")})
	if problems, invalid := config.IsInvalid(err); invalid {
		return nil, h.locate(problems)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot use the values of %s: %w", h.label(), err)
	}
	return effective, nil
}

// locate moves problems of the host's values from the kernel command line to their
// positions in the list.
func (h Host) locate(problems config.Problems) config.Problems {
	var all config.Problems
	for _, p := range problems {
		at, ok := h.set[p.Path]
		if !ok {
			at = h.at
			for key, position := range h.set { // the problem of an unknown key has no path
				if strings.Contains(p.Message, strconv.Quote(key)) {
					at = position
				}
			}
		}
		message := p.Message
		if h.id() != (Host{}).id() {
			message = "cannot use the values of " + h.label() + ": " + message
		}
		all = append(all, config.Problem{File: at.File, Line: at.Line, Col: at.Col, Path: p.Path, Message: message, Hint: p.Hint})
	}
	return all
}

// prefix distinguishes firstboot's files from others in the same directory.
const prefix = "firstboot-"

// id returns the base name of the host's files.
func (h Host) id() string {
	switch {
	case h.MAC != "":
		return prefix + "mac-" + strings.ReplaceAll(h.MAC, ":", "-")
	case h.UUID != "":
		return prefix + "uuid-" + h.UUID
	}
	return prefix + "default"
}

// label returns a name of the host for people.
func (h Host) label() string {
	switch {
	case h.Name != "":
		return h.Name
	case h.MAC != "":
		return h.MAC
	case h.UUID != "":
		return h.UUID
	}
	return "every other host"
}

// script returns the path of the host's iPXE script. boot.ipxe computes the same path.
func (h Host) script() string { return "hosts/" + h.id() + ".ipxe" }
