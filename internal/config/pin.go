package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
)

// Pin writes artifacts' digests, by section ("calicoctl"), into the text of a
// configuration. Each sha256 is added after the section's url or replaces the
// existing value. Everything else, including comments, is unchanged. Pin decodes
// the result to make sure of that.
func Pin(s Source, digests map[string]string) ([]byte, error) {
	for _, section := range slices.Sorted(maps.Keys(digests)) {
		text, err := pin(s, section, digests[section])
		if err != nil {
			return nil, fmt.Errorf("cannot write %s.sha256 into %s: %w", section, s.Name, err)
		}
		s.Data = text
	}
	return s.Data, nil
}

func pin(s Source, section, digest string) ([]byte, error) {
	before := decode(s)
	if len(before.problems) > 0 {
		return nil, before.problems
	}
	edited, err := edit(s, before, section, `"`+digest+`"`)
	if err != nil {
		return nil, err
	}
	after := decode(Source{Name: s.Name, Data: edited})
	want := values(before.layer)
	want[section+".sha256"] = digest
	if len(after.problems) > 0 || !reflect.DeepEqual(values(after.layer), want) {
		return nil, errors.New("its layout does not allow editing; add the key by hand")
	}
	return edited, nil
}

// values returns the values of a layer without their positions.
func values(l layer) map[string]any {
	all := map[string]any{}
	for path, v := range l {
		all[path] = v.data
	}
	return all
}

// edit replaces the sha256 of a section, or adds it after the url.
func edit(s Source, d *decoder, section, digest string) ([]byte, error) {
	if old, ok := d.layer[section+".sha256"]; ok {
		start, end, err := extent(s.Data, old)
		if err != nil {
			return nil, err
		}
		return slices.Concat(s.Data[:start], []byte(digest), s.Data[end:]), nil
	}
	url, ok := d.layer[section+".url"]
	if !ok {
		return nil, fmt.Errorf("it has no %s.url", section)
	}
	_, end, err := extent(s.Data, url)
	if err != nil {
		return nil, err
	}
	if isFlowMapping(s, section) {
		return slices.Concat(s.Data[:end], []byte(", sha256: "+digest), s.Data[end:]), nil
	}
	indent := strings.Repeat(" ", d.sections[section+".url"].col-1)
	line := indent + "sha256: " + digest
	next, eol := cutLine(s.Data[end:])
	if eol == "" {
		_, eol = cutLine(s.Data) // the last line has no end; use the first line's
		eol = cmp.Or(eol, "\n")
		return slices.Concat(s.Data, []byte(eol+line+eol)), nil
	}
	end += next
	return slices.Concat(s.Data[:end], []byte(line+eol), s.Data[end:]), nil
}

// cutLine returns where the next line begins and how the first one ends: LF,
// CR LF, CR, or "" at the end of the text.
func cutLine(text []byte) (next int, eol string) {
	i := bytes.IndexAny(text, "\r\n")
	switch {
	case i < 0:
		return len(text), ""
	case bytes.HasPrefix(text[i:], []byte("\r\n")):
		return i + 2, "\r\n"
	}
	return i + 1, string(text[i])
}

// isFlowMapping reports whether a section is written as {key: value}.
func isFlowMapping(s Source, section string) bool {
	body, _ := parse(s)
	top, ok := body.(ast.MapNode)
	if !ok {
		return false
	}
	for it := top.MapRange(); it.Next(); {
		if it.Key().GetToken().Value == section {
			m, ok := it.Value().(*ast.MappingNode)
			return ok && m.IsFlowStyle
		}
	}
	return false
}

// extent returns where a scalar begins and ends in the text, including quotes.
func extent(text []byte, v value) (start, end int, err error) {
	start, ok := offset(text, v.at)
	if !ok {
		return 0, 0, errors.New("the position is not in the text")
	}
	rest := text[start:]
	switch rest[0] {
	case '"', '\'':
		if n := quotedLength(rest); n > 0 {
			return start, start + n, nil
		}
	default:
		if plain := reveal(v.data); plain != "" && bytes.HasPrefix(rest, []byte(plain)) {
			return start, start + len(plain), nil
		}
	}
	return 0, 0, errors.New("the value is not written on one line")
}

// quotedLength returns the length of the quoted scalar at the beginning of
// text, or 0 if the closing quote is missing.
func quotedLength(text []byte) int {
	quote := text[0]
	for i := 1; i < len(text); i++ {
		switch {
		case quote == '"' && text[i] == '\\':
			i++
		case text[i] != quote:
		case quote == '\'' && i+1 < len(text) && text[i+1] == quote:
			i++
		default:
			return i + 1
		}
	}
	return 0
}

// offset returns the byte offset of a position, and whether it is in the text.
func offset(text []byte, at position) (int, bool) {
	from := 0
	for range at.line - 1 {
		next, eol := cutLine(text[from:])
		if eol == "" {
			return 0, false
		}
		from += next
	}
	if at.line == 1 && bytes.HasPrefix(text, []byte("\uFEFF")) {
		from += len("\uFEFF") // the byte order mark has no column
	}
	for range at.col - 1 {
		_, size := utf8.DecodeRune(text[from:])
		from += size
	}
	return from, from < len(text)
}

// SourceOf returns the source of a key's value: its origin without the
// position.
func (l *Loaded) SourceOf(key string) string { return originLine.ReplaceAllString(l.Origins[key], "") }

// MayHoldSecrets reports whether a source contains a secret, or cannot be
// parsed and therefore may contain one.
func MayHoldSecrets(s Source) bool {
	d := decode(s)
	return d.unreadable || holdsSecret(d.layer, s.Name)
}
