package config

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// trickySources returns sources that are difficult for parsers.
func trickySources() []string {
	return []string{
		"", minimal, withSecrets, cloudConfigText, Example(), "a: b: c", "{", "[", "- - -", "? x\n: y", "&a [*a]", "!!binary x", "%YAML 9\n---\n", "---\n---\n",
		"pool:\n\tcidr: x", "pool: |\n x\n", "pool: >+2\n  x", "\"\\ud800\"", "pool: {cidr: [", "'", "\ufeff", "\r", "a:\r\n", "# x", "...\n", "etcd: {endpoints: [http://a:1, ::1, a:b:c:]}",
		"a: [x:1]}]:", "{a: [b:c, d: e, {f:g}]}", "- a: b\n  c: - d", "\xff", "\x00", "pool:\n  name: \"a\\x00\"", strings.Repeat("[", 64), strings.Repeat(" ", 64) + "a: b", "<<: {}", "null: null", "? ", ": ", "-", "|", ">", "@", "`",
	}
}

// FuzzDecode: the decoder never panics or hangs, positions are inside the
// source, and an accepted configuration survives being saved.
func FuzzDecode(f *testing.F) {
	for _, s := range trickySources() {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		checkDecoded(t, decode(Source{Name: "f", Data: data}), data)
		loaded, err := (&loader{decoded: []*decoder{decode(Source{Name: "f", Data: data})}}).finish()
		if err != nil {
			return
		}
		again, err := LoadEffective(saved(t, loaded))
		if err != nil {
			t.Fatalf("an accepted configuration is rejected after saving: %v", err)
		}
		if again.Digest != loaded.Digest {
			t.Fatal("the saved configuration differs")
		}
	})
}

// checkDecoded checks that positions are inside the source and that messages
// have one line.
func checkDecoded(t *testing.T, d *decoder, data []byte) {
	t.Helper()
	lines := bytes.Count(data, []byte("\n")) + bytes.Count(data, []byte("\r")) + 1
	for _, p := range d.problems {
		if p.Line < 1 || p.Line > lines || p.Col < 1 || p.Col > len(data)+2 {
			t.Errorf("%d:%d is outside the source: %s", p.Line, p.Col, p.Message)
		}
		if text := p.Error(); strings.ContainsFunc(text, func(r rune) bool { return r < ' ' }) || !utf8.ValidString(text) {
			t.Errorf("the message has control characters: %q", text)
		}
	}
	for path, v := range d.layer {
		if _, _, ok := findKey(path); !ok || v.at.line > lines {
			t.Errorf("%s at line %d", path, v.at.line)
		}
	}
	if d.unreadable != (d.unreadable && len(d.problems) > 0) {
		t.Error("the source is unreadable, but no problem is reported")
	}
}

// FuzzCmdline: the parser never panics, and ignores no argument of firstboot
// silently.
func FuzzCmdline(f *testing.F) {
	for _, s := range []string{"", "quiet ro", "firstboot.pool.cidr=10.0.0.0/8", `firstboot.node.environment.A="b c"`, `"firstboot.pool.name=x`, "firstboot.", "firstboot.=", "firstboot.sysctl.=1", "firstboot.sysctl..=1", "firstboot.config= firstboot.config.sha256=x", "--", "firstboot.etcd.endpoints=,,", "a=\"", "\xff", "firstboot.host.name=\x01", `firstboot.install.image="http://a/b c" firstboot.install.wipe=true`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		for name, value := range InstallArguments(line) {
			if !utf8.ValidString(name+value) || !strings.Contains(line, "firstboot.install.") {
				t.Errorf("%q: argument %q=%q", line, name, value)
			}
		}
		d, from := decodeCmdline(line)
		for _, p := range d.problems {
			if text := p.Error(); strings.ContainsFunc(text, func(r rune) bool { return r < ' ' }) || !utf8.ValidString(text) {
				t.Errorf("the message has control characters: %q", text)
			}
		}
		given := slices.ContainsFunc(splitCmdline(strings.TrimRight(line, "\n\x00")), func(a argument) bool {
			return strings.HasPrefix(a.name, "firstboot.") && !strings.HasPrefix(a.name, "firstboot.install.")
		})
		if given && len(d.layer) == 0 && len(d.problems) == 0 && !from.present && from.sha256 == "" && !strings.Contains(line, "config.sha256=") {
			t.Errorf("%q is ignored", line)
		}
	})
}

// FuzzCloudConfig: user-data never makes the decoder panic or report a position
// outside the source.
func FuzzCloudConfig(f *testing.F) {
	for _, s := range trickySources() {
		f.Add([]byte(s))
		f.Add([]byte("#cloud-config\nhostname: a\nfirstboot:\n  " + strings.ReplaceAll(s, "\n", "\n  ")))
	}
	f.Add([]byte(`{"firstboot": {"pool": {"cidr": 1}}, "é": "\ud83d"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		checkDecoded(t, decodeCloudConfig(Source{Name: "f", Data: data}), data)
	})
}

// FuzzEffective: LoadEffective returns either a configuration or an error.
func FuzzEffective(f *testing.F) {
	l, err := loadText(f, withSecrets)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(saved(f, l))
	for _, s := range trickySources() {
		f.Add([]byte("effective: 1\nconfig:\n  " + strings.ReplaceAll(s, "\n", "\n  ")))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := LoadEffective(data)
		if (l == nil) == (err == nil) {
			t.Fatal("neither a configuration nor an error")
		}
	})
}
