package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"
)

// compileSchema compiles the schema with an independent validator.
func compileSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	data, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("firstboot.json", document); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("firstboot.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSchemaDescribesEveryKey: each key has a description, and its default if it
// has one.
func TestSchemaDescribesEveryKey(t *testing.T) {
	data, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	type node struct {
		Properties  map[string]node
		Description string
		Default     any
	}
	var root node
	if err := json.Unmarshal(data, &root); err != nil {
		t.Fatal(err)
	}
	for _, k := range schema() {
		n := root
		for part := range strings.SplitSeq(k.path, ".") {
			n = n.Properties[part]
		}
		if n.Description == "" {
			t.Errorf("%s has no description", k.path)
		}
	}
	if got := root.Properties["pool"].Properties["blockSize"].Default; got != 26.0 {
		t.Errorf("pool.blockSize's default is %v", got)
	}
}

// TestSchemaAgreesWithTheDecoder: both accept or reject the same random
// documents. The documents do not depend on rules that only Load checks.
func TestSchemaAgreesWithTheDecoder(t *testing.T) {
	s := compileSchema(t)
	rapid.Check(t, func(t *rapid.T) {
		text := anyDocument(t)
		d := decode(Source{Name: "x", Data: []byte(text)})
		merged := merge(defaults(), d.layer)
		v := &validator{cfg: merged.config(), layer: merged}
		v.allowed()
		wrong := append(d.problems, v.problems...)
		for _, path := range required() {
			if _, ok := d.layer[path]; !ok && !d.seen[path] {
				wrong = append(wrong, Problem{Path: path, Message: "is required"})
			}
		}
		err := validateYAML(s, text)
		if (err == nil) != (len(wrong) == 0) {
			t.Fatalf("the schema returns %v, the decoder %v:\n%s", err, wrong, text)
		}
	})
}

// validateYAML checks a YAML text with the schema.
func validateYAML(s *jsonschema.Schema, text string) error {
	data, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		return err
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return err
	}
	return s.Validate(v)
}

// anyDocument draws a document with the required keys and a few more, sometimes
// with a wrong value, an unknown key or a missing key.
func anyDocument(t *rapid.T) string {
	var b strings.Builder
	for _, section := range childNames("") {
		if section != "etcd" && section != "pool" && rapid.Bool().Draw(t, section) {
			continue
		}
		if rapid.IntRange(0, 40).Draw(t, "oddity") == 0 {
			fmt.Fprintf(&b, "%s: %s\n", section, anyWord().Draw(t, "instead"))
			continue
		}
		names := childNames(section)
		fmt.Fprintf(&b, "%s:\n", section)
		if section == "sysctl" || rapid.IntRange(0, 60).Draw(t, "unknown key") == 0 {
			names = append(names, "other")
		}
		for _, name := range names {
			path := joinPath(section, name)
			need := path == "etcd.endpoints" || path == "pool.cidr"
			if rapid.IntRange(0, 40).Draw(t, path) > map[bool]int{true: 39, false: 12}[need] {
				continue
			}
			fmt.Fprintf(&b, "  %s: %s\n", name, anyWordFor(path).Draw(t, path))
		}
	}
	return b.String()
}

// anyWord draws a YAML value of any type.
func anyWord() *rapid.Generator[string] {
	return rapid.SampledFrom([]string{`text`, `"26"`, `7`, `-1`, `1.5`, `true`, `""`, `[]`, `[a]`, `[1]`, `[[a]]`, `{}`, `{a: 1}`, `{a: [b]}`, `{a: b, c: true}`, `10m`, `0`})
}

// anyWordFor draws a value that is valid for the key in most cases.
func anyWordFor(path string) *rapid.Generator[string] {
	right := map[string][]string{
		"etcd.endpoints": {"[http://a:1]", `["http://a:1", x]`}, "pool.cidr": {"10.0.0.0/8", "10.213.0.0/16"}, "docker.restart": {"deny", "allow"},
		"pool.ipip": {"Never", "Always", "never"}, "pool.blockSize": {"20", "26"}, "preflight.ignore": {"[clock]", "[address, clock]", "[clok]"},
		"bgp.topology": {"mesh", "auto", "meshes"}, "timeouts.total": {"0", "1h", "1h30m", "1.5h", "10", "1d"}, "timeouts.node": {"10s", "0", "ms"},
		"timeouts.download": {"10m", "1us"}, "node.asNumber": {"64512", "1"}, "fleet.maxJoining": {"1", "50"}, "fleet.report": {"true", "false"}, "pool.natOutgoing": {"true", "false"},
		"node.environment": {"{A: b}", "{A: 1, B: true}"}, "minions.environment": {"{}", "{A: b}"}, "sysctl.other": {"1", "true", "text", "1.5"},
	}[path]
	if right == nil {
		right = []string{"text", `"1"`}
	}
	return rapid.Custom(func(t *rapid.T) string {
		if rapid.IntRange(0, 30).Draw(t, "odd") == 0 {
			if path == "pool.blockSize" || path == "node.asNumber" || path == "fleet.maxJoining" || path == "pool.cidr" {
				return rapid.SampledFrom([]string{`text`, `"26"`, `true`, `[]`, `{}`}).Draw(t, "value") // only Load checks limits and empty values
			}
			if path == "docker.restart" || path == "bgp.topology" || path == "pool.ipip" {
				return rapid.SampledFrom([]string{`7`, `[]`, `other`}).Draw(t, "value")
			}
			return anyWord().Draw(t, "value")
		}
		return rapid.SampledFrom(right).Draw(t, "right")
	})
}

// TestSchemaRejectsCommonMistakes: and accepts valid configurations.
func TestSchemaRejectsCommonMistakes(t *testing.T) {
	s := compileSchema(t)
	for _, text := range []string{Example(), minimal, withSecrets, minimal + "host:\nsysctl:\nnode: {environment: }\n"} {
		if err := validateYAML(s, text); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	}
	for _, text := range []string{
		"pool: {cidr: 10.0.0.0/8}\n", "etcd:\npool: {cidr: 10.0.0.0/8}\n", minimal + "pol: {}\n", minimal + "  blocksize: 26\n", minimal + "  blockSize: \"26\"\n",
		minimal + "  blockSize: 33\n", minimal + "  ipip: never\n", minimal + "timeouts: {node: 10}\n", minimal + "sysctl: {net: {ipv4: 1}}\n",
		minimal + "node: {asNumber: 0}\n", minimal + "preflight: {ignore: [clok]}\n", minimal + "fleet: {report: yes}\n",
	} {
		if validateYAML(s, text) == nil {
			t.Errorf("accepted:\n%s", text)
		}
	}
}
