package config

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// maxCmdline bounds the kernel's command line, in bytes: x86 kernels keep
// 2048, arm64 the same, s390 4096.
const maxCmdline = 64 << 10

// argument is one parameter of a command line.
type argument struct {
	name, value string
	valued      bool // there was an =
	col         int  // where it begins, in characters from 1
}

// splitCmdline cuts a command line as the kernel does: at white space that is
// not in double quotes; a quote may stand before the name or before the value,
// and is taken off. What follows a lone -- is meant for init.
func splitCmdline(line string) []argument {
	var args []argument
	for i := 0; i < len(line); {
		if isSpace(line[i]) {
			i++
			continue
		}
		start, quoted := i, false
		for ; i < len(line) && (quoted || !isSpace(line[i])); i++ {
			if line[i] == '"' {
				quoted = !quoted
			}
		}
		word := line[start:i]
		if word == "--" {
			break
		}
		arg := cutArgument(word)
		arg.col = 1 + utf8.RuneCountInString(line[:start])
		args = append(args, arg)
	}
	return args
}

// cutArgument is the kernel's next_arg: quotes are taken off the whole word,
// or off the value.
func cutArgument(word string) argument {
	if inner, whole := strings.CutPrefix(word, `"`); whole {
		word = strings.TrimSuffix(inner, `"`)
	}
	name, v, valued := strings.Cut(word, "=")
	if inner, ok := strings.CutPrefix(v, `"`); ok {
		v = strings.TrimSuffix(inner, `"`)
	}
	return argument{name: name, value: v, valued: valued}
}

func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

// remote is a configuration to fetch: firstboot.config, and what must hold of
// it: its sum, or a signature by a key in a file of the machine, or both.
type remoteConfig struct {
	url      URL
	sha256   string
	signedBy string
	at       position
	present  bool
}

// decodeCmdline reads the arguments firstboot.KEY=VALUE; the last of a name
// wins, as with other kernel arguments.
func decodeCmdline(line string) (*decoder, remoteConfig) {
	d := newDecoder(Source{Name: CmdlineName, nameOnly: true})
	var from remoteConfig
	if len(line) > maxCmdline || !utf8.ValidString(line) {
		d.unreadable = true
		d.fail(position{source: CmdlineName}, "", "is not a command line that can be read", "")
		return d, from
	}
	for _, arg := range splitCmdline(strings.TrimRight(line, "\n\x00")) {
		name, ours := strings.CutPrefix(arg.name, "firstboot.")
		if !ours {
			continue
		}
		at := position{source: CmdlineName, line: 1, col: arg.col, nameOnly: true}
		switch {
		case !arg.valued:
			d.seen[name] = true
			d.fail(at, "", quote("firstboot."+cutSecret(name))+" needs a value", "write firstboot."+cutSecret(name)+"=VALUE")
		case strings.HasPrefix(name, "install."): // see InstallArguments
		case name == "config":
			from.url, from.at, from.present = URL(arg.value), at, true
		case name == "config.sha256":
			from.sha256 = arg.value
		case name == "config.signedBy":
			from.signedBy = arg.value
		default:
			d.argument(name, arg.value, at)
		}
	}
	return d, from
}

// InstallArguments are the NAME and VALUE of each firstboot.install.NAME=VALUE
// on a kernel command line: what firstboot install is to do. They are no part
// of a configuration.
func InstallArguments(line string) map[string]string {
	values := map[string]string{}
	if len(line) > maxCmdline || !utf8.ValidString(line) {
		return values
	}
	for _, arg := range splitCmdline(strings.TrimRight(line, "\n\x00")) {
		if name, ours := strings.CutPrefix(arg.name, "firstboot.install."); ours && arg.valued {
			values[name] = arg.value
		}
	}
	return values
}

// argument reads one KEY=VALUE; lists are comma-separated.
func (d *decoder) argument(path, text string, at position) {
	k, entry, ok := findKey(path)
	if !ok || k.isMap() && entry == "" {
		section, name, cut := strings.Cut(path, ".")
		if !cut {
			section, name = "", path
		}
		message, hint := unknownKey(section, name)
		if ok || slices.Contains(childNames(""), path) {
			message, hint = quote("firstboot."+path)+" needs the name of a key", "write firstboot."+path+".NAME=VALUE"
		}
		d.fail(at, "", message, hint)
		return
	}
	d.seen[path] = true
	field := k.field(new(Config))
	if _, isList := field.(*[]string); isList {
		d.commaList(k, text, at)
		return
	}
	v, f := convert(field, scalar{text, untypedScalar})
	if f != nil {
		d.fail(at, cutSecret(path), f.message, f.hint)
		return
	}
	d.layer[path] = value{data: v, at: at}
}

func (d *decoder) commaList(k key, text string, at position) {
	items, positions := []string{}, []position{}
	for word := range strings.SplitSeq(text, ",") {
		if word = strings.TrimSpace(word); word == "" {
			continue
		}
		if f := checkText(word); f != nil {
			d.fail(at, k.path, f.message, f.hint)
			return
		}
		items, positions = append(items, word), append(positions, at)
	}
	d.layer[k.path] = value{data: items, at: at, items: positions}
}
