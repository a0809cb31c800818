package ignition

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml"
	"github.com/vincent-petithory/dataurl"
)

// butaneHeader selects the variant and version that produce spec 3.3.0.
const butaneHeader = `# Written by firstboot render ignition --butane. After an edit:
#   butane --strict FILE > config.ign
variant: fcos
version: 1.4.0
`

// Butane returns the config as YAML, which the butane program translates back into
// Ignition's JSON.
func (r Rendered) Butane() ([]byte, error) {
	tree, err := sparse(r.Config)
	if err != nil {
		return nil, fmt.Errorf("cannot write Butane: %w", err)
	}
	// In Butane the version follows from the variant.
	if section, ok := tree["ignition"].(map[string]any); ok {
		delete(section, "version")
	}
	data, err := yaml.MarshalWithOptions(butane("", prune(tree)), yaml.Indent(2), yaml.IndentSequence(true), yaml.UseLiteralStyleIfMultiline(true))
	if err != nil {
		return nil, fmt.Errorf("cannot write Butane: %w", err)
	}
	// Lines of spaces only are written by the library: inlineText does not inline
	// text that contains them.
	data = blankLine.ReplaceAll(data, nil)
	return append([]byte(butaneHeader), append(bytes.TrimRight(data, "\n"), '\n')...), nil
}

var blankLine = regexp.MustCompile(`(?m)^ +$`)

// butane converts a value to its form in Butane: snake case, octal modes, inline
// contents.
func butane(key string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		return butaneMap(v)
	case []any:
		for i := range v {
			v[i] = butane("", v[i])
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			if key == "mode" {
				return octal(n)
			}
			return n
		}
	}
	return v
}

func butaneMap(m map[string]any) yaml.MapSlice {
	var out yaml.MapSlice
	text, isText := inlineText(m)
	for _, name := range slices.SortedFunc(maps.Keys(m), nameAndPathFirst) {
		switch {
		case name == "source" && isText:
			out = append(out, yaml.MapItem{Key: "inline", Value: text})
			continue
		case name == "compression" && isText:
			continue // Butane decides
		}
		out = append(out, yaml.MapItem{Key: snake(name), Value: butane(name, m[name])})
	}
	return out
}

// nameAndPathFirst orders the keys of an entry: path and name first, the others
// sorted.
func nameAndPathFirst(a, b string) int {
	rank := func(key string) int { return slices.Index([]string{"name", "path"}, key) }
	if d := rank(b) - rank(a); d != 0 {
		return d
	}
	return strings.Compare(a, b)
}

// inlineText returns the text of a data URL, unless it is compressed or not printable.
func inlineText(m map[string]any) (string, bool) {
	source, _ := m["source"].(string)
	compression, _ := m["compression"].(string)
	if !strings.HasPrefix(source, "data:") || compression != "" || m["httpHeaders"] != nil {
		return "", false
	}
	u, err := dataurl.DecodeString(source)
	if err != nil || len(u.Data) == 0 {
		return "", false
	}
	text := string(u.Data)
	unprintable := func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) || r == unicode.ReplacementChar }
	return text, !strings.ContainsFunc(text, unprintable) && !blankLine.MatchString(text)
}

// octal is a file mode, written in octal.
type octal int64

// MarshalYAML writes the leading 0 that marks octal numbers in Butane.
func (o octal) MarshalYAML() ([]byte, error) { return fmt.Appendf(nil, "0%o", int64(o)), nil }

// snake converts Ignition's names to Butane's, such as sizeMiB to size_mib.
func snake(name string) string {
	name = strings.ReplaceAll(name, "MiB", "Mib")
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
