package config

import (
	"strings"
	"testing"
)

// cloudConfigText is a cloud-config.txt as cloud-init 22.4 writes it: the merged
// parts, with aliases and tags in other keys.
const cloudConfigText = `#cloud-config

# from 1 files
# part-001

---
firstboot:
    etcd:
        endpoints:
        - http://10.0.0.1:2379
    pool:
        cidr: 10.213.0.0/16
        name: from-cloud
hostname: web-1
runcmd:
- &id001
  - echo
  - 'firstboot: no'
- *id001
write_files:
-   content: !!binary |
        Zmlyc3Rib290Ogo=
    path: /x
-   content: |
        firstboot:
          pool: {}
    path: /y
...
`

// TestCloudConfigKeyFirstbootIsRead: other keys are ignored.
func TestCloudConfigKeyFirstbootIsRead(t *testing.T) {
	l := mustLoad(t, Options{Root: rootWith(t, map[string]string{CloudConfigFile: cloudConfigText})})
	if got, want := l.Origins["pool.name"], CloudConfigFile+":13:15"; l.Config.Pool.Name != "from-cloud" || got != want {
		t.Errorf("pool.name = %s from %s, want it from %s", l.Config.Pool.Name, got, want)
	}
}

// TestCloudConfigLayouts reads the key in several YAML layouts.
func TestCloudConfigLayouts(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"last key", "#cloud-config\nhostname: a\nfirstboot:\n  pool: {name: x}\n", "3"},
		{"flow", "#cloud-config\nfirstboot: {pool: {name: x}}\nhostname: a\n", "2"},
		{"quoted", "\"firstboot\":\n  pool: {name: x}\n", "2"},
		{"single quoted", "'firstboot' :\n  pool: {name: x}\n", "2"},
		{"comment inside", "firstboot:\n# comment\n  # another\n\n  pool: {name: x}\na: b\n", "5"},
		{"absent", "#cloud-config\nhostname: firstboot\nfirstbootx: 1\n", ""},
		{"empty", "#cloud-config\nfirstboot:\nhostname: a\n", ""},
		{"not a cloud-config", "#!/bin/sh\necho firstboot: x\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := decodeCloudConfig(Source{Name: "c", Data: []byte(c.text)})
			if len(d.problems) > 0 {
				t.Fatal(d.problems)
			}
			origin := d.layer["pool.name"].at.origin()
			if c.want == "" && len(d.layer) > 0 || c.want != "" && !strings.Contains(origin, ":"+c.want+":") && c.name != "last key" {
				t.Errorf("pool.name is at %s, want line %s", origin, c.want)
			}
		})
	}
}

// TestCloudConfigProblems: problems have the position in the whole file.
func TestCloudConfigProblems(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "#cloud-config\nhostname: a\nfirstboot:\n  pol: {}\n", `c:4:3: unknown key "pol" (did you mean "pool"?)`},
		{"not a mapping", "#cloud-config\nfirstboot: true\n", `c:2:12: must be a mapping of keys`},
		{"duplicate key", "firstboot: {}\nhostname: a\nfirstboot: {}\n", `c:3:1: duplicate key "firstboot" (first at c:1:1)`},
		{"anchor in the key firstboot", "firstboot: &a {}\n", `c:1:12: anchors, aliases and merge keys are not allowed (repeat the value instead)`},
		{"open bracket", "hostname: a\nfirstboot:\n  pool: [\n", `c:3:9: is not valid YAML: sequence end token ']' not found`},
		{"JSON", "{\n \"a\": \"é\\ud83d\\ude00\",\n \"firstboot\": {\"pol\": {}}\n}\n", `c:3:16: unknown key "pol" (did you mean "pool"?)`},
		{"truncated JSON", "{\n \"firstboot\": {", `c:1:1: is not valid JSON`},
		{"too large JSON", "{" + strings.Repeat(" ", MaxSource), `c:1:1: is larger than 1 MB`},
		{"too large", strings.Repeat("#", MaxSource+1), `c:1:1: is larger than 1 MB`},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := decodeCloudConfig(Source{Name: "c", Data: []byte(c.text)})
			if len(d.problems) == 0 || d.problems[0].Error() != c.want {
				t.Errorf("got  %v\nwant %s", d.problems, c.want)
			}
		})
	}
}

// TestCombinedCloudConfig: newer releases of cloud-init write JSON.
func TestCombinedCloudConfig(t *testing.T) {
	text := "{\n \"hostname\": \"\\ud83d\\ude00 &a *b !c\",\n \"firstboot\": {\n  \"etcd\": {\"endpoints\": [\"http://10.0.0.1:2379\"]},\n  \"pool\": {\"cidr\": \"10.213.0.0/16\"}\n },\n \"runcmd\": [[\"firstboot\"]]\n}\n"
	l := mustLoad(t, Options{Root: rootWith(t, map[string]string{CombinedCloudConfigFile: text})})
	if got, want := l.Origins["pool.cidr"], CombinedCloudConfigFile+":5:20"; got != want {
		t.Errorf("pool.cidr from %s, want %s", got, want)
	}
}
