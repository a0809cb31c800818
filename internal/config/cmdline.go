package config

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/projecteru2/firstboot/internal/secret"
)

// maxCmdline limits the kernel command line, in bytes. The kernel's own limit is
// 2048 on x86 and arm64, and 4096 on s390.
const maxCmdline = 64 << 10

// argument is one argument of the kernel command line.
type argument struct {
	name, value string
	hasValue    bool // there is a =
	col         int  // where it begins, in characters from 1
}

// splitCmdline splits a command line as the kernel does: at white space outside
// double quotes. Quotes around an argument or its value are removed. The
// arguments after -- are for init and are ignored.
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

// cutArgument splits a word into name and value and removes quotes, as next_arg
// in the kernel does.
func cutArgument(word string) argument {
	if inner, whole := strings.CutPrefix(word, `"`); whole {
		word = strings.TrimSuffix(inner, `"`)
	}
	name, v, hasValue := strings.Cut(word, "=")
	if inner, ok := strings.CutPrefix(v, `"`); ok {
		v = strings.TrimSuffix(inner, `"`)
	}
	return argument{name: name, value: v, hasValue: hasValue}
}

func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

// remoteConfig is a configuration to fetch, as the arguments firstboot.config*
// name it. It is verified by its sha256, by a signature, or by both.
type remoteConfig struct {
	url      secret.URL
	sha256   string
	signedBy string // path of the public key on this machine
	at       position
	present  bool // there is an argument firstboot.config=
}

// decodeCmdline reads the arguments firstboot.KEY=VALUE. If a key is repeated,
// the last value wins, as for other kernel arguments.
func decodeCmdline(line string) (*decoder, remoteConfig) {
	d := newDecoder(Source{Name: CmdlineName, nameOnly: true})
	var from remoteConfig
	if len(line) > maxCmdline {
		d.unreadable = true
		d.fail(position{source: CmdlineName}, "", "is too long", "")
		return d, from
	}
	for _, arg := range splitCmdline(strings.TrimRight(line, "\n\x00")) {
		name, ok := strings.CutPrefix(arg.name, "firstboot.")
		if !ok {
			continue
		}
		at := position{source: CmdlineName, line: 1, col: arg.col, nameOnly: true}
		switch {
		case !utf8.ValidString(name) || !utf8.ValidString(arg.value):
			d.unreadable = true
			d.fail(at, "", "an argument of firstboot is not UTF-8 text", "")
		case !arg.hasValue:
			d.seen[name] = true
			d.withoutValue(name, at)
		case strings.HasPrefix(name, "install."): // see InstallArguments
		case name == "config":
			from.url, from.at, from.present = secret.URL(arg.value), at, true
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

// InstallArguments returns NAME and VALUE of each firstboot.install.NAME=VALUE
// on a kernel command line. They configure firstboot install and are not part of
// the configuration.
func InstallArguments(line string) map[string]string {
	values := map[string]string{}
	if len(line) > maxCmdline {
		return values
	}
	for _, arg := range splitCmdline(strings.TrimRight(line, "\n\x00")) {
		if name, ok := strings.CutPrefix(arg.name, "firstboot.install."); ok && arg.hasValue && utf8.ValidString(name) && utf8.ValidString(arg.value) {
			values[name] = arg.value
		}
	}
	return values
}

// withoutValue reports the argument firstboot.KEY without =VALUE. The key is
// quoted only if it is known: the user may have written KEY:VALUE.
func (d *decoder) withoutValue(path string, at position) {
	k, entry, ok := findKey(path)
	if ok && (entry == "" || k.checkName(entry) == nil) || path == "config" || strings.HasPrefix(path, "config.") && keyWord.MatchString(path) {
		d.fail(at, "", quote("firstboot."+path)+" needs a value", "write firstboot."+path+"=VALUE")
		return
	}
	d.fail(at, "", "an argument of firstboot needs a value", "write firstboot.KEY=VALUE")
}

// argument reads one KEY=VALUE.
func (d *decoder) argument(path, text string, at position) {
	k, entry, ok := findKey(path)
	if !ok || k.isMap() && entry == "" {
		section, name, cut := strings.Cut(path, ".")
		if !cut {
			section, name = "", path
		}
		message, hint := unknownKey(section, name)
		if ok || slices.Contains(childNames(""), path) {
			message, hint = quote("firstboot."+path)+" needs a key", "write firstboot."+path+".NAME=VALUE"
		}
		d.fail(at, "", message, hint)
		return
	}
	d.seen[path] = true
	if k.isMap() {
		if f := k.checkName(entry); f != nil {
			d.fail(at, k.shownPath(entry), f.message, f.hint)
			return
		}
	}
	field := k.field(new(Config))
	if _, isList := field.(*[]string); isList {
		d.commaList(k, text, at)
		return
	}
	v, f := convert(field, scalar{text, untypedScalar})
	if f != nil {
		d.fail(at, path, f.message, f.hint)
		return
	}
	d.layer[path] = value{data: v, at: at}
}

// commaList reads the comma-separated items of a list.
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
