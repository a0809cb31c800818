package config

import (
	"bytes"
	"encoding/json"
	"regexp"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// Where cloud-init keeps the merged cloud-config of the user-data, for every
// datasource (22.4 and later; mode 0600). Only newer releases have the second
// file, which is in memory.
const (
	CloudConfigFile         = "/var/lib/cloud/instance/cloud-config.txt"
	CombinedCloudConfigFile = "/run/cloud-init/combined-cloud-config.json"
)

// cloudKey matches the line of a cloud-config where the key firstboot begins.
// topLevel matches a line where another top-level key begins or the document
// ends.
var (
	cloudKey = regexp.MustCompile(`^(?:firstboot|"firstboot"|'firstboot')[ \t]*:(?:[ \t\r\n]|$)`)
	topLevel = regexp.MustCompile(`^[^ \t\r\n#\-]|^---|^\.\.\.`)
)

// cloudSource returns the cloud-config that cloud-init kept, if there is one.
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

// isUserData reports whether a file is user-data for cloud-init rather than a
// configuration: it begins with a header.
func isUserData(data []byte) bool {
	return userDataHeader.Match(data)
}

var userDataHeader = regexp.MustCompile(`^(?:\x{FEFF})?(?:## template: ?jinja[ \t]*\r?\n)?#cloud-config[ \t]*(?:\r?\n|$)`)

// decodeCloudConfig reads the top-level key firstboot of a cloud-config. The
// other keys may contain syntax that parse rejects (tags, anchors), so they are
// replaced by blanks, which keeps the positions.
func decodeCloudConfig(s Source) *decoder {
	isJSON := bytes.HasPrefix(bytes.TrimSpace(s.Data), []byte("{"))
	section := Source{Name: s.Name, Data: s.Data}
	ok := true
	switch {
	case len(s.Data) > MaxSource: // parse reports it
	case isJSON:
		section.Data, ok = blankJSON(s.Data)
	default:
		section.Data = blankOthers(s.Data)
	}
	d := newDecoder(section)
	d.yaml11 = !isJSON && s.Name != CloudConfigFile // that file was already written again
	if !ok {
		d.unreadable = true
		d.fail(position{source: s.Name, line: 1, col: 1}, "", "is not valid JSON", "")
		return d
	}
	body, problems := parse(section)
	d.problems, d.unreadable = problems, problems != nil
	if body == nil {
		return d
	}
	visit := func(_ string, _ *token.Token, v ast.Node) {
		if v.Type() != ast.NullType {
			d.section("", v)
		}
	}
	if isJSON {
		visit("", nil, body)
	} else {
		d.each("", body, "a mapping of keys", visit)
	}
	return d
}

// blankOthers empties every line that does not belong to the key firstboot.
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

// blankJSON replaces everything except the value of the last top-level key
// "firstboot" by blanks. ok is false if data is not valid JSON.
func blankJSON(data []byte) (section []byte, ok bool) {
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
	for i, r := range string(data) { // one blank per character keeps the columns
		switch {
		case start <= i && i < end, r == '\n':
			out.WriteRune(r)
		default:
			out.WriteByte(' ')
		}
	}
	return out.Bytes(), true
}
