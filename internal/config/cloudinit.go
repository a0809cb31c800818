package config

import (
	"bytes"
	"encoding/json"
	"regexp"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// Where cloud-init keeps the user-data's cloud-config once it has merged its
// parts, whatever datasource it came from (22.4 and later; mode 0600). The
// second is of newer releases and lies in memory.
const (
	CloudConfigFile         = "/var/lib/cloud/instance/cloud-config.txt"
	CombinedCloudConfigFile = "/run/cloud-init/combined-cloud-config.json"
)

// cloudKey is the line that starts our part of a cloud-config; topLevel any
// line that starts another part, or ends the document.
var (
	cloudKey = regexp.MustCompile(`^(?:firstboot|"firstboot"|'firstboot')[ \t]*:(?:[ \t\r\n]|$)`)
	topLevel = regexp.MustCompile(`^[^ \t\r\n#\-]|^---|^\.\.\.`)
)

// cloudSource is the cloud-config that cloud-init kept, if there is one.
func (t tree) cloudSource() (s Source, found bool, err error) {
	for _, path := range []string{CloudConfigFile, CombinedCloudConfigFile} {
		data, found, err := t.read(path)
		if err != nil {
			return Source{}, false, err
		}
		if found && len(data) > 0 {
			return Source{Name: path, Data: data}, true, nil
		}
	}
	return Source{}, false, nil
}

// decodeCloudConfig reads the top-level key firstboot: of a cloud-config. The
// other keys belong to cloud-init and may hold what a configuration must not
// (tags, anchors), so only our lines are given to the parser; the others are
// blanked, which keeps positions.
func decodeCloudConfig(s Source) *decoder {
	isJSON := bytes.HasPrefix(bytes.TrimSpace(s.Data), []byte("{"))
	ours := Source{Name: s.Name, Data: s.Data}
	ok := true
	switch {
	case len(s.Data) > MaxSource: // parse says so
	case isJSON:
		ours.Data, ok = blankJSON(s.Data)
	default:
		ours.Data = blankOthers(s.Data)
	}
	d := newDecoder(ours)
	if !ok {
		d.unreadable = true
		d.fail(position{source: s.Name, line: 1, col: 1}, "", "is not valid JSON", "")
		return d
	}
	body, problems := parse(ours)
	d.problems, d.unreadable = problems, problems != nil
	if body == nil {
		return d
	}
	ourKey := func(_ string, _ *token.Token, v ast.Node) {
		if v.Type() != ast.NullType {
			d.section("", v)
		}
	}
	if isJSON {
		ourKey("", nil, body)
	} else {
		d.each("", body, "a mapping of keys", ourKey)
	}
	return d
}

// blankOthers empties every line that is not of the key firstboot:.
func blankOthers(data []byte) []byte {
	var out bytes.Buffer
	inside := false
	for line := range bytes.Lines(data) {
		switch {
		case cloudKey.Match(line):
			inside = true
		case topLevel.Match(line):
			inside = false
		}
		if inside {
			out.Write(line)
		} else if bytes.HasSuffix(line, []byte("\n")) {
			out.WriteByte('\n')
		}
	}
	return out.Bytes()
}

// blankJSON leaves the value of the last top-level key "firstboot" in its
// place and blanks everything else; ok is false for what is no JSON.
func blankJSON(data []byte) (ours []byte, ok bool) {
	start, end := 0, 0
	dec := json.NewDecoder(bytes.NewReader(data))
	if _, err := dec.Token(); err != nil {
		return nil, false
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, false
		}
		var v json.RawMessage
		if dec.Decode(&v) != nil {
			return nil, false
		}
		if name == "firstboot" {
			end = int(dec.InputOffset())
			start = end - len(v)
		}
	}
	var out bytes.Buffer
	for i, r := range string(data) { // by characters: so columns stay
		switch {
		case start <= i && i < end, r == '\n':
			out.WriteRune(r)
		default:
			out.WriteByte(' ')
		}
	}
	return out.Bytes(), true
}
