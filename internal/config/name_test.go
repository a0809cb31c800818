package config

import (
	"encoding/json"
	"strings"
	"testing"
)

const cluster = "etcd: {endpoints: [\"http://10.0.0.1:2379\"]}\npool: {cidr: 10.213.0.0/16}\n"

// TestMistypedSecretIsNotQuoted: the error of a line in which a secret is not
// where it belongs gives the position and the rule, in text and as JSON.
func TestMistypedSecretIsNotQuoted(t *testing.T) {
	for _, text := range []string{
		"minions:\n  environment: {API_TOKEN:s3cretpw}\n",
		"minions:\n  environment: {API_TOKEN:s3cretpw, A: \"1\"}\n",
		"minions:\n  environment: {A: \"1\", API_TOKEN :s3cretpw}\n",
		"minions:\n  environment: {A: \"1\",API_TOKEN:\"s3cretpw\"}\n",
		"minions:\n  environment: {API_TOKEN:[s3cretpw]}\n",
		"minions:\n  environment:\n    API_TOKEN:s3cretpw:\n    A: \"1\"\n",
		"minions:\n  environment:\n    API_TOKEN:s3cretpw: \"1\"\n",
		"minions:\n  environment:\n    API_TOKEN=s3cretpw:\n",
		"minions:\n  environment:\n    s3cretpw: API_TOKEN\n",
		"minions:\n  environment:\n    s3cretpw=: x\n",
		"minions:\n  environment:\n    API_TOKEN:s3cretpw\n",
		"minions:\n  environment:\n    - API_TOKEN=s3cretpw\n",
		"minions:\n  environment:\n    API_TOKEN : s3cretpw\n    B: c: s3cretpw\n",
		"minions:\n  environment:\n    API_TOKEN: [s3cretpw]\n",
		"minions:\n  environment:\n    API_TOKEN: {s3cretpw: 1}\n",
		"minions:\n  environment:\n    \"API_TOKEN s3cretpw\": x\n    \"API_TOKEN s3cretpw\": y\n",
		"minions:\n  environment: \"API_TOKEN: s3cretpw\"\n",
		"minions:\n  environment:\n    API_TOKEN: 's3cretpw\n",
		"minions:\n  environment:\n    API_TOKEN: \"s3cretpw\\q\"\n",
		"minions:\n  environment:\n    API_TOKEN: \"s3cretpw\" x\n",
		"minions:\n  environment:\n    API_TOKEN: @s3cretpw\n",
		"minions:\n  environment:\n    API_TOKEN: *s3cretpw\n",
		"minions:\n  environment:\n    API_TOKEN: !s3cretpw x\n",
		"minions:\n  environment:\n\tAPI_TOKEN: s3cretpw\n",
		"minions: {s3cretpw: x}\n",
		"minions: {url:https://user:s3cretpw@host/x}\n",
		"minions:\n  url:https://user:s3cretpw@host/x:\n",
		"minions:\n  url: [\"https://user:s3cretpw@host/x\"]\n",
		"minions: {url: ftp://user:s3cretpw@host/x}\n",
		"minions: {url: \"https://user:s3cretpw@[x\"}\n",
		"node: {image: \"https://user:s3cretpw@registry/calico/node:v3.23.0\"}\n",
		"node: {image: \"user:s3cretpw@registry/calico/node:v3.23.0\"}\n",
		"API_TOKEN:s3cretpw:\n",
		"API_TOKEN:s3cretpw: x\nAPI_TOKEN:s3cretpw: y\n",
		"proxy: {http: \"user:s3cretpw@proxy\"}\n",
		"report: {url: \"s3cretpw://x\"}\n",
		"report: {url: \"https://h/s3cretpw x\"}\n",
		"docker: {clusterStore: \"etcd://user:s3cretpw@h:1\"}\n",
		"sysctl: {\"net.x:s3cretpw\": 1}\n",
	} {
		_, err := loadText(t, cluster+text)
		problems, ok := IsInvalid(err)
		if !ok {
			t.Errorf("%q: %v, want an invalid configuration", text, err)
			continue
		}
		asJSON, err := json.Marshal(problems)
		if err != nil {
			t.Fatal(err)
		}
		for _, shown := range []string{problems.Error(), string(asJSON)} {
			if strings.Contains(shown, "s3cretpw") {
				t.Errorf("%q: the secret is in %s", text, shown)
			}
		}
		for _, p := range problems {
			if p.Line < 3 || p.Col < 1 {
				t.Errorf("%q: %v has no position", text, p)
			}
		}
	}
}

func TestMistypedSecretInUserDataIsNotQuoted(t *testing.T) {
	for _, text := range []string{
		"#cloud-config\nfirstboot:\n  minions:\n    environment: {API_TOKEN:s3cretpw, A: \"1\"}\n",
		"#cloud-config\nfirstboot:\n  minions:\n    environment:\n      API_TOKEN:s3cretpw:\n",
		"#cloud-config\nfirstboot: {API_TOKEN:s3cretpw}\n",
		`{"firstboot": {"minions": {"environment": {"API_TOKEN:s3cretpw": null}}}}`,
		`{"firstboot": {"minions": {"environment": {"API_TOKEN": s3cretpw}}}}`,
	} {
		d := decodeCloudConfig(Source{Name: "c", Data: []byte(text)})
		if len(d.problems) == 0 || strings.Contains(d.problems.Error(), "s3cretpw") {
			t.Errorf("%q: %v", text, d.problems)
		}
	}
}

func TestMistypedSecretOnCommandLineIsNotQuoted(t *testing.T) {
	for _, line := range []string{
		"firstboot.minions.environment.API_TOKEN:s3cretpw",
		"firstboot.minions.environment.API_TOKEN:s3cretpw=x",
		"firstboot.API_TOKEN:s3cretpw=x",
		"firstboot.minions.API_TOKEN:s3cretpw",
		"firstboot.s3cretpw:a.b=x",
		"firstboot.minions.url=ftp://user:s3cretpw@host",
	} {
		root := rootWith(t, map[string]string{MainFile: cluster})
		_, err := Load(t.Context(), Options{Root: root, Cmdline: line})
		if problems, ok := IsInvalid(err); !ok || strings.Contains(problems.Error(), "s3cretpw") {
			t.Errorf("%q: %v", line, err)
		}
	}
}

// TestColonInBraces: what other YAML parsers read as one key is refused, and
// what they read as a pair is accepted.
func TestColonInBraces(t *testing.T) {
	const rule = "inside braces a colon needs a space after it (write {NAME: VALUE})"
	for text, want := range map[string]string{
		"{A:1}":             rule,
		"{A: 1, BB:x}":      rule,
		"{A:http://h/}":     rule,
		"{A: http://h/}":    "",
		"{A: b:c, D: \"\"}": "",
		`{"A":1, 'B':"x"}`:  "",
		"{A: a:b:c}":        "",
	} {
		got := strings.Join(problemLines(t, cluster+"node: {environment: "+text+"}\n"), "\n")
		if want == "" && got != "" || want != "" && !strings.HasSuffix(got, rule) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	if got := problemLines(t, "etcd: {endpoints: [http://10.0.0.1:2379, 'http://10.0.0.2:2379']}\npool: {cidr: 10.213.0.0/16, name: abc}\n"); got != nil {
		t.Errorf("endpoints in brackets: %v", got)
	}
}

// TestNamesAreStillQuoted: a message names a key that cannot be a secret.
func TestNamesAreStillQuoted(t *testing.T) {
	for text, want := range map[string]string{
		"pool2: {}\n":                            `3:1: unknown key "pool2" (did you mean "pool"?)`,
		"minions: {API_TOKEN: x}\n":              `3:11: unknown key "minions.API_TOKEN"`,
		"minions: {environment: {A: [b]}}\n":     `3:28: minions.environment.A: must be a single value`,
		"minions: {environment: {A: b, A: c}}\n": `3:31: duplicate key "minions.environment.A" (first at `,
		"sysctl: {net/ipv4/ip_forward: 1}\n":     `3:10: sysctl.net/ipv4/ip_forward: is not the name of a kernel setting (did you mean "net.ipv4.ip_forward"?)`,
	} {
		if got := problemLines(t, cluster+text); len(got) != 1 || !strings.HasPrefix(got[0], want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
