package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestAllProblemsHavePositions: `firstboot validate` reports all problems
// together, each with its position and a hint.
func TestAllProblemsHavePositions(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"valid", minimal, nil},
		{"empty file", "", []string{
			`1:1: etcd.endpoints: is required (such as etcd.endpoints: [http://10.0.0.1:2379])`,
			`1:1: pool.cidr: is required (such as pool.cidr: 10.213.0.0/16)`,
		}},
		{"only comments", "# nothing\n---\n# here\n", []string{
			`1:1: etcd.endpoints: is required (such as etcd.endpoints: [http://10.0.0.1:2379])`,
			`1:1: pool.cidr: is required (such as pool.cidr: 10.213.0.0/16)`,
		}},
		{"required keys at their section", "pool:\n  name: a\netcd:\n", []string{
			`1:1: pool.cidr: is required (such as pool.cidr: 10.213.0.0/16)`,
			`2:9: pool.name: is too short for a Docker network name (use at least two characters, or set pool.network)`,
			`3:1: etcd.endpoints: is required (such as etcd.endpoints: [http://10.0.0.1:2379])`,
		}},
		{"an empty list counts as missing", "etcd:\n  endpoints: []\npool: {cidr: 10.213.0.0/16}\n", []string{
			`2:3: etcd.endpoints: is required (such as etcd.endpoints: [http://10.0.0.1:2379])`,
		}},
		{"unknown keys", minimal + "  blocksize: 26\npol:\n  cidr: x\nendpoints: []\n", []string{
			`5:3: unknown key "pool.blocksize" (did you mean "blockSize"?)`,
			`6:1: unknown key "pol" (did you mean "pool"?)`,
			`8:1: unknown key "endpoints" (did you mean "etcd.endpoints"?)`,
		}},
		{"snake case", minimal + "  nat_outgoing: true\n", []string{
			`5:3: unknown key "pool.nat_outgoing" (did you mean "natOutgoing"?)`,
		}},
		{"no similar key", minimal + "zzzzzzzz: 1\n", []string{`5:1: unknown key "zzzzzzzz"`}},
		{"vxlan is explained", minimal + "  vxlanMode: Always\n", []string{
			`5:3: unknown key "pool.vxlanMode" (VXLAN pools cannot be used, because eru-minions removes the pool's vxlanMode; use pool.ipip)`,
		}},
		{"duplicate keys", minimal + "  cidr: 10.214.0.0/16\npool:\n  name: other\n", []string{
			`5:3: duplicate key "pool.cidr" (first at /etc/firstboot/config.yaml:4:3)`,
			`6:1: duplicate key "pool" (first at /etc/firstboot/config.yaml:3:1)`,
		}},
		{"types", strings.Join([]string{
			"etcd: {endpoints: http://10.0.0.1:2379}",
			"pool:",
			"  cidr: 10.213.0.0",
			"  blockSize: \"26\"",
			"  natOutgoing: yes",
			"  name: [a]",
			"calicoctl: {version: 3.23}",
			"node: {asNumber: -1, environment: [A=b]}",
			"timeouts: {download: 10, node: 1d}",
			"fleet: true",
			"sysctl: {net: {ipv4: 1}}",
		}, "\n"), []string{
			`1:19: etcd.endpoints: must be a list (enclose it in [ and ])`,
			`3:9: pool.cidr: "10.213.0.0" is not a CIDR such as 10.213.0.0/16 (add the prefix length, such as /16)`,
			`4:14: pool.blockSize: must be a whole number, not text (remove the quotes)`,
			`5:16: pool.natOutgoing: must be true or false (write true)`,
			`6:9: pool.name: must be a single value`,
			`7:22: calicoctl.version: must be text, not a number (put it in quotes)`,
			`8:18: node.asNumber: must be a whole number in decimal notation`,
			`8:35: node.environment: must be a mapping of names to values`,
			`9:22: timeouts.download: must be a duration such as 90s, 10m or 1h30m (did you mean "10s"?)`,
			`9:32: timeouts.node: must be a duration such as 90s, 10m or 1h30m`,
			`10:8: fleet: must be a mapping of keys`,
			`11:15: sysctl.net: must be a single value (write the whole name as one key, such as net.ipv4.ip_forward)`,
		}},
		{"ambiguous numbers", minimal + "  blockSize: 026\nfleet: {maxJoining: 0x10}\nnode: {asNumber: 4294967296}\n", []string{
			`5:14: pool.blockSize: must be a whole number in decimal notation`,
			`6:21: fleet.maxJoining: must be a whole number in decimal notation`,
			`7:18: node.asNumber: is too large (at most 4294967295)`,
		}},
		{"null", minimal + "  name:\n  ipip: ~\nhost:\nnode: {environment: }\n", []string{
			`5:3: pool.name: has no value (set a value or remove the key)`,
			`6:3: pool.ipip: has no value (set a value or remove the key)`,
		}},
		{"top level is a list", "- a\n", []string{`1:1: must be a mapping of keys`, `1:1: etcd.endpoints: is required (such as etcd.endpoints: [http://10.0.0.1:2379])`, `1:1: pool.cidr: is required (such as pool.cidr: 10.213.0.0/16)`}},
		{"control characters", minimal + "  name: \"a\\u0000b\"\nnode:\n  environment:\n    A: |\n      one\n      two\n", []string{
			`5:9: pool.name: must not contain control characters`,
			`8:8: node.environment.A: must not contain a line break (write it on one line)`,
		}},
		{"item of a list", "etcd:\n  endpoints:\n    - http://10.0.0.1:2379\n    - 10.0.0.2:2379\n    - [a]\n    - 7\npool: {cidr: 10.213.0.0/16}\n", []string{
			`4:7: etcd.endpoints: an endpoint has no scheme (did you mean "http://10.0.0.2:2379"?)`,
			`5:7: etcd.endpoints: must be a list of text`,
			`6:7: etcd.endpoints: must be text, not a number (put it in quotes)`,
		}},
		{"columns count characters", "pool: {name: \"é日本\", cidr: 10.213.0.1/16}\netcd: {endpoints: [http://10.0.0.1:2379]}\n", []string{
			`1:14: pool.name: "é日本" is not an RFC 1123 name: only letters, digits and hyphens, and no label may begin or end with a hyphen`,
			`1:27: pool.cidr: "10.213.0.1/16" has host bits set (did you mean "10.213.0.0/16"?)`,
		}},
		{"windows line ends", "pool:\r\n  cidr: 10.213.0.1/16\r\netcd:\r\n  endpoints: [http://10.0.0.1:2379]\r\n", []string{
			`2:9: pool.cidr: "10.213.0.1/16" has host bits set (did you mean "10.213.0.0/16"?)`,
		}},
		{"byte order mark", "\uFEFFpool: {cidr: 10.213.0.1/16}\netcd: {endpoints: [http://10.0.0.1:2379]}\n", []string{
			`1:14: pool.cidr: "10.213.0.1/16" has host bits set (did you mean "10.213.0.0/16"?)`,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, problemLines(t, c.text)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

// TestSyntaxErrors: a source that cannot be parsed has one problem; missing keys
// are not reported as well.
func TestSyntaxErrors(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"tab", "pool:\n\tcidr: x\n", `2:1: is not valid YAML: found character TAB that cannot start any token (indent with spaces)`},
		{"open quote", "pool:\n  name: \"hunter2\n", `2:9: is not valid YAML: could not find end character of double-quoted text`},
		{"two colons", "pool: cidr: x\n", `1:7: is not valid YAML: mapping value is not allowed in this context`},
		{"two documents", minimal + "---\n" + minimal, `6:1: contains a second YAML document (write one configuration per file)`},
		{"anchor", "pool: &a {}\nhost: *a\n", `1:7: anchors, aliases and merge keys are not allowed (repeat the value instead)`},
		{"alias", "host: *a\n", `1:7: anchors, aliases and merge keys are not allowed (repeat the value instead)`},
		{"merge key", "pool:\n  <<: {}\n", `2:3: anchors, aliases and merge keys are not allowed (repeat the value instead)`},
		{"tag", "pool: !!map {}\n", `1:7: tags and directives are not allowed`},
		{"directive", "%YAML 1.2\n---\n" + minimal, `1:1: tags and directives are not allowed`},
		{"explicit key", "? pool\n: {}\n", `1:1: explicit keys (?) are not allowed (write key: value)`},
		{"NUL", "pool:\n  na\x00me: x\n", `2:5: contains a control character`},
		{"escape", "pool: é\x1b[2J\n", `1:8: contains a control character`},
		{"not UTF-8", "pool: \xff\n", `1:7: is not UTF-8 text`},
		{"deep brackets", "pool: " + strings.Repeat("[", 100), `1:39: is nested too deeply`},
		{"deep dashes", strings.Repeat("- ", 100), `1:65: is nested too deeply`},
		{"a million brackets", strings.Repeat("[", MaxSource), `1:16385: has too many entries`},
		{"too large", strings.Repeat("#\n", MaxSource), `1:1: is larger than 1 MB`},
		{"deep blocks", deepBlocks(1200), `1:1: unknown key "a"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := problemLines(t, c.text)
			if len(got) == 0 || got[0] != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// deepBlocks returns n nested block mappings.
func deepBlocks(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

// TestProblemsOfAllFilesAreReported: in the order of the sources.
func TestProblemsOfAllFilesAreReported(t *testing.T) {
	root := rootWith(t, map[string]string{
		VendorDir + "/10.yaml": "pool: {ipip: never}\n",
		MainFile:               "pol: {}\n",
		DropInDir + "/a.yaml":  "pool: [\n",
		DropInDir + "/b.yaml":  "node: {asNumber: x}\n",
	})
	_, err := Load(t.Context(), Options{Root: root})
	want := strings.Join([]string{
		`/usr/lib/firstboot/config.d/10.yaml:1:14: pool.ipip: must be Never, Always or CrossSubnet, not "never" (did you mean "Never"?)`,
		`/etc/firstboot/config.yaml:1:1: unknown key "pol" (did you mean "pool"?)`,
		`/etc/firstboot/config.d/a.yaml:1:7: is not valid YAML: sequence end token ']' not found`,
		`/etc/firstboot/config.d/b.yaml:1:18: node.asNumber: must be a whole number, not text`,
	}, "\n")
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

// TestNoSecretInProblems puts the same secret in every position where a problem
// can occur.
func TestNoSecretInProblems(t *testing.T) {
	const secret = "hunter2"
	for _, text := range []string{
		"node:\n  url: http://user:hunter2@[bad/\n",
		"node:\n  url: ftp://user:hunter2@host/x\n",
		"node:\n  url: http://user:hunter2@host/x\n",
		"proxy: {http: \"user:hunter2@proxy:3128\"}\n",
		"report: {url: \"http://u:hunter2@h:99999/\"}\n",
		"etcd: {endpoints: [\"http://root:hunter2@10.0.0.1:2379\"]}\n",
		"etcd: {endpoints: [\"root:hunter2@10.0.0.1:2379\"]}\n",
		"etcd: {endpoints: [\"http://root:hunter2@10.0.0.1:23%79\"]}\n",
		"docker: {clusterStore: \"etcd://root:hunter2@10.0.0.1:2379\"}\n",
		"docker: {clusterStore: \"http://root:hunter2@10.0.0.1:2379\"}\n",
		"node: {environment: {\"PASSWORD=hunter2\": x}}\n",
		"node: {environment: {\"PASSWORD=hunter2\": }}\n",
		"node: {environment: {\"PASSWORD=hunter2\": [x]}}\n",
		"node: {environment: {password: hunter2}}\n",
		"node: {environment: {NODENAME: hunter2}}\n",
		"node: {environment: {A: \"hunter2\\n\"}}\n",
		"node: {environment: [PASSWORD=hunter2]}\n",
		"node: {\"environment=hunter2\": 1}\n",
		"node: {environment: {A: \"hunter2}\n",
		"node: {environment: {A: hunter2: x}}\n",
		"password: hunter2\n",
		"etcd: {password: hunter2}\n",
		"node: hunter2\n",
		"hunter2\n",
	} {
		_, err := loadText(t, text)
		if err == nil {
			t.Errorf("%q: no problem found", text)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("%q: the message contains the secret: %v", text, err)
		}
	}
}

// TestProblemsAreLimited: more than maxProblems are only counted.
func TestProblemsAreLimited(t *testing.T) {
	got := problemLines(t, minimal+strings.Repeat("unknown: 1\n", 1000))
	if len(got) != maxProblems+1 || got[maxProblems] != "105:1: and 900 more" {
		t.Errorf("%d lines, the last %q", len(got), got[len(got)-1])
	}
}
