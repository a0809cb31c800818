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

// butaneHead names the variant and version whose output is spec 3.3.0.
const butaneHead = `# Made by firstboot render ignition --butane. After an edit:
#   butane --strict FILE > config.ign
variant: fcos
version: 1.4.0
`

// Butane is the same config as YAML that the butane program turns back into
// Ignition's JSON.
func (r Rendered) Butane() ([]byte, error) {
	tree, err := sparse(r.Config)
	if err != nil {
		return nil, fmt.Errorf("cannot write Butane: %w", err)
	}
	// The variant names the version.
	if section, ok := tree["ignition"].(map[string]any); ok {
		delete(section, "version")
	}
	data, err := yaml.MarshalWithOptions(butane("", prune(tree)), yaml.Indent(2), yaml.IndentSequence(true), yaml.UseLiteralStyleIfMultiline(true))
	if err != nil {
		return nil, fmt.Errorf("cannot write Butane: %w", err)
	}
	// No text that is written in lines has one of blanks only: those are the
	// library's.
	data = blankLine.ReplaceAll(data, nil)
	return append([]byte(butaneHead), append(bytes.TrimRight(data, "\n"), '\n')...), nil
}

var blankLine = regexp.MustCompile(`(?m)^ +$`)

// butane gives a value its form in Butane: snake case, octal modes, inline
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
	for _, name := range slices.SortedFunc(maps.Keys(m), byWeight) {
		if name == "source" && isText {
			out = append(out, yaml.MapItem{Key: "inline", Value: text})
			continue
		}
		out = append(out, yaml.MapItem{Key: snake(name), Value: butane(name, m[name])})
	}
	return out
}

// byWeight puts first what an entry is about.
func byWeight(a, b string) int {
	weight := func(name string) int { return slices.Index([]string{"name", "path"}, name) }
	if d := weight(b) - weight(a); d != 0 {
		return d
	}
	return strings.Compare(a, b)
}

// inlineText is the text of a data URL that a person would rather edit.
func inlineText(m map[string]any) (string, bool) {
	source, _ := m["source"].(string)
	if !strings.HasPrefix(source, "data:") || m["compression"] != nil || m["httpHeaders"] != nil {
		return "", false
	}
	u, err := dataurl.DecodeString(source)
	if err != nil || len(u.Data) == 0 {
		return "", false
	}
	text := string(u.Data)
	odd := func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) || r == unicode.ReplacementChar }
	return text, !strings.ContainsFunc(text, odd) && !blankLine.MatchString(text)
}

// octal is a file mode as people write it.
type octal int64

// MarshalYAML writes it with the leading 0 that makes it octal for Butane.
func (o octal) MarshalYAML() ([]byte, error) { return fmt.Appendf(nil, "0%o", int64(o)), nil }

// snake turns Ignition's names into Butane's: sizeMiB → size_mib.
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
