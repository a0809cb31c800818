package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// effectiveSchema is the version of the format that Save writes.
const effectiveSchema = 1

// effectiveSource names the saved configuration in errors.
const effectiveSource = "/var/lib/firstboot/effective.yaml"

// Save writes the effective configuration with its origins and secrets: the
// caller keeps the file at mode 0600.
func (l *Loaded) Save(w io.Writer) error {
	var b bytes.Buffer
	b.WriteString("# Written by firstboot: the configuration that this host is made from.\n")
	b.WriteString("# It holds secrets. Edit /etc/firstboot/config.yaml instead, then: firstboot run --force\n")
	fmt.Fprintf(&b, "effective: %d\nconfig:\n", effectiveSchema)
	writeSettings(&b, "  ", flatten(l.Config), reveal, nil)
	b.WriteString("origins:\n")
	for _, s := range flatten(l.Config) {
		fmt.Fprintf(&b, "  %s: %s\n", jsonText(s.path), jsonText(l.Origins[s.path]))
	}
	_, err := w.Write(b.Bytes())
	return err
}

// LoadEffective reads what Save wrote. Origins are those of the first load.
func LoadEffective(data []byte) (*Loaded, error) {
	d := newDecoder(Source{Name: effectiveSource, Data: data})
	saved := map[string]string{}
	body, problems := parse(d.source)
	d.problems, d.unreadable = problems, problems != nil
	if body == nil && !d.unreadable {
		d.unreadable = true
		d.fail(position{source: effectiveSource, line: 1, col: 1}, "", "is empty", "run firstboot run --force")
	}
	if body != nil {
		d.effective(body, saved)
	}
	if len(d.problems) > 0 {
		return nil, d.problems.truncated()
	}
	loaded, err := (&loader{decoded: []*decoder{d}}).finish()
	if err != nil {
		return nil, err
	}
	for path := range loaded.Origins {
		if origin, ok := saved[path]; ok {
			loaded.Origins[path] = origin
		}
	}
	return loaded, nil
}

// effective reads the three keys of the format.
func (d *decoder) effective(body ast.Node, origins map[string]string) {
	version := ""
	d.each("", body, "what firstboot saved", func(name string, key *token.Token, v ast.Node) {
		switch name {
		case "effective":
			s, _, _ := scalarOf(v)
			version = s.text
		case "config":
			d.section("", v)
		case "origins":
			d.each(name, v, "a mapping", func(path string, _ *token.Token, v ast.Node) {
				s, _, _ := scalarOf(v)
				origins[path] = s.text
			})
		default:
			d.fail(d.position(key), "", "unknown key "+quote(cutSecret(name)), "written by a newer firstboot?")
		}
	})
	if version != fmt.Sprint(effectiveSchema) {
		// Of another version every other problem is noise.
		d.problems = Problems{position{source: effectiveSource, line: 1, col: 1}.problem("effective",
			"is not a format that this firstboot knows", "written by a newer firstboot, or not by firstboot")}
	}
}

// Digest identifies an effective configuration: "sha256:" of the values that
// are not at their defaults, so that a key which a later firstboot adds does
// not make every host look changed. Secrets count, and cannot be read from it.
func Digest(c *Config) string {
	fallback := map[string]any{}
	for _, s := range flatten(Default()) {
		fallback[s.path] = s.value
	}
	changed := map[string]json.RawMessage{}
	for _, s := range flatten(c) {
		if was, ok := fallback[s.path]; ok && encode(was, reveal) == encode(s.value, reveal) {
			continue
		}
		changed[s.path] = json.RawMessage(encode(s.value, reveal))
	}
	canonical, _ := json.Marshal(changed) // sorted by key; of valid JSON it cannot fail
	return fmt.Sprintf("sha256:%x", sha256.Sum256(canonical))
}

func isZero(v any) bool {
	if list, ok := v.([]string); ok {
		return len(list) == 0
	}
	return reflect.ValueOf(v).IsZero()
}

// reveal and redact are the two ways to show what may be a secret.
func reveal(v any) string {
	switch v := v.(type) {
	case Secret:
		return v.Reveal()
	case URL:
		return v.Reveal()
	}
	return fmt.Sprint(v)
}

func redact(v any) string { return fmt.Sprint(v) }

// encode is a value as JSON, which is YAML as well.
func encode(v any, text func(any) string) string {
	switch v := v.(type) {
	case bool, int, uint32:
		return fmt.Sprint(v)
	case []string:
		words := make([]string, len(v))
		for i, s := range v {
			words[i] = jsonText(s)
		}
		return "[" + strings.Join(words, ", ") + "]"
	case netip.Prefix:
		if !v.IsValid() {
			return `""`
		}
		return jsonText(v.String())
	case time.Duration:
		return jsonText(v.String())
	}
	return jsonText(text(v))
}

// jsonText quotes s so that both JSON and YAML read it back.
func jsonText(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(s) != nil { // of a string it cannot fail
		return `""`
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// writeSettings writes YAML, section by section. comment, where given, ends a
// value's line.
func writeSettings(b *bytes.Buffer, indent string, all []setting, text func(any) string, comment func(path string) string) {
	current := ""
	for _, s := range all {
		section, name := splitPath(s.path)
		if section != current {
			common := commonSections(current, section)
			parts := strings.Split(section, ".")
			for i := common; i < len(parts); i++ {
				fmt.Fprintf(b, "%s%s%s:\n", indent, strings.Repeat("  ", i), parts[i])
			}
			current = section
		}
		depth := strings.Repeat("  ", 1+strings.Count(section, "."))
		fmt.Fprintf(b, "%s%s%s: %s", indent, depth, name, encode(s.value, text))
		if comment != nil {
			b.WriteString(" # " + comment(s.path))
		}
		b.WriteByte('\n')
	}
}

// yamlPlace is where a flat path stands in YAML: the sections above it, and
// its own key.
func splitPath(path string) (section, name string) {
	if k, entry, ok := findKey(path); ok && entry != "" {
		return k.path, jsonText(entry)
	}
	section, name = cutLast(path)
	return section, name
}

func commonSections(a, b string) int {
	as, bs, n := strings.Split(a, "."), strings.Split(b, "."), 0
	for n < len(as) && n < len(bs) && as[n] == bs[n] {
		n++
	}
	return n
}

// cutLast cuts at the last dot.
func cutLast(path string) (before, after string) {
	i := strings.LastIndexByte(path, '.')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}
