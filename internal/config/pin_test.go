package config

import (
	"strings"
	"testing"
)

func TestPinChangesNothingElse(t *testing.T) {
	for name, c := range map[string]struct{ in, out string }{
		"block": {
			"# head\ncalicoctl:\n  url: http://a/b # the mirror\n\n  version: v3.23.0\n# foot\n",
			"# head\ncalicoctl:\n  url: http://a/b # the mirror\n  sha256: \"SUM\"\n\n  version: v3.23.0\n# foot\n",
		},
		"no newline at the end": {"calicoctl:\n    url: /a/b", "calicoctl:\n    url: /a/b\n    sha256: \"SUM\"\n"},
		"flow mapping":          {"calicoctl: {version: v3.23.0, url: http://a/b}\n", "calicoctl: {version: v3.23.0, url: http://a/b, sha256: \"SUM\"}\n"},
		"flow mapping on several lines": {
			"calicoctl: {\n  url: \"http://a/b\",\n  version: v3.23.0\n}\n",
			"calicoctl: {\n  url: \"http://a/b\", sha256: \"SUM\",\n  version: v3.23.0\n}\n",
		},
		"an empty value is replaced": {"calicoctl: {url: 'http://a/b', sha256: ''} # x\n", "calicoctl: {url: 'http://a/b', sha256: \"SUM\"} # x\n"},
		"a wrong value is replaced":  {"calicoctl:\n  sha256: abc # old\n  url: /a\n", "calicoctl:\n  sha256: \"SUM\" # old\n  url: /a\n"},
		"multibyte characters":       {"calicoctl: {version: \"ü\", url: /ä/b}\n", "calicoctl: {version: \"ü\", url: /ä/b, sha256: \"SUM\"}\n"},
		"a byte order mark":          {"\uFEFFcalicoctl: {url: /a}\n", "\uFEFFcalicoctl: {url: /a, sha256: \"SUM\"}\n"},
		"escapes in quotes":          {`calicoctl: {url: "/a\"}b"}` + "\n", `calicoctl: {url: "/a\"}b", sha256: "SUM"}` + "\n"},
		"everything in flow":         {"{calicoctl: {url: /a}}\n", "{calicoctl: {url: /a, sha256: \"SUM\"}}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Pin(Source{Name: "my.yaml", Data: []byte(c.in)}, map[string]string{"calicoctl": sampleDigest})
			if want := strings.ReplaceAll(c.out, "SUM", sampleDigest); err != nil || string(got) != want {
				t.Errorf("got %v\n%s\nwant\n%s", err, got, want)
			}
		})
	}
}

func TestPinRefusesWhatItCannotEdit(t *testing.T) {
	for name, text := range map[string]string{
		"no url":           "calicoctl:\n  version: v3.23.0\n",
		"not on one line":  "calicoctl:\n  url: |\n    /a/b\n",
		"invalid YAML":     "calicoctl: [\n",
		"empty":            "",
		"url on two lines": "calicoctl:\n  url: /a\n    /b\n",
	} {
		if got, err := Pin(Source{Name: "my.yaml", Data: []byte(text)}, map[string]string{"calicoctl": sampleDigest}); err == nil {
			t.Errorf("%s: no error, but\n%s", name, got)
		}
	}
}

func TestPinWritesSeveralDigests(t *testing.T) {
	text := "minions:\n  url: /m\ncalicoctl:\n  url: /c\nnode:\n  url: /n\n"
	got, err := Pin(Source{Name: "my.yaml", Data: []byte(text)}, map[string]string{"minions": sampleDigest, "calicoctl": sampleDigest, "node": sampleDigest})
	if err != nil || strings.Count(string(got), sampleDigest) != 3 {
		t.Errorf("%v\n%s", err, got)
	}
}

func TestURLWithoutDigestNeedsUnpinned(t *testing.T) {
	root := rootWith(t, map[string]string{MainFile: minimal + "calicoctl:\n  url: /c\n"})
	if _, err := Load(t.Context(), Options{Root: root}); err == nil {
		t.Error("accepted without Unpinned")
	}
	l := mustLoad(t, Options{Root: root, Unpinned: true})
	if got := l.SourceOf("calicoctl.url"); got != MainFile {
		t.Errorf("SourceOf = %q", got)
	}
}

func TestMayHoldSecrets(t *testing.T) {
	for text, want := range map[string]bool{
		minimal:                                  false,
		"node:\n  environment:\n    A: b\n":      true,
		"calicoctl:\n  url: http://u:p@host/a\n": true,
		"calicoctl:\n  url: http://host/a\n":     false,
		"calicoctl: [":                           true,
	} {
		if got := MayHoldSecrets(Source{Name: "x", Data: []byte(text)}); got != want {
			t.Errorf("MayHoldSecrets(%q) = %v", text, got)
		}
	}
}

func FuzzPin(f *testing.F) {
	f.Add([]byte("calicoctl: {url: /a}"))
	f.Add([]byte("calicoctl:\n  url: '/a''b' # c\r\n  version: v3.1.0\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		before := decode(Source{Name: "f", Data: text})
		out, err := Pin(Source{Name: "f", Data: text}, map[string]string{"calicoctl": sampleDigest})
		if err != nil {
			return
		}
		after := decode(Source{Name: "f", Data: out})
		if after.layer["calicoctl.sha256"].data != sampleDigest || reveal(after.layer["calicoctl.url"].data) != reveal(before.layer["calicoctl.url"].data) && before.layer["calicoctl.url"].data != nil {
			t.Errorf("%q became %q", text, out)
		}
	})
}
