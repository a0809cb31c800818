package cloudinit

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/kdomanski/iso9660"

	"github.com/projecteru2/firstboot/images"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/test/provisiontest"
)

// userData renders and parses it as cloud-init would.
func userData(t *testing.T, l *config.Loaded, o Options) (string, map[string]any) {
	t.Helper()
	data, err := UserData(l, o)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(data, []byte("#cloud-config\n")) {
		t.Errorf("it does not begin with #cloud-config:\n%s", data)
	}
	var doc map[string]any
	if err := yaml.UnmarshalWithOptions(data, &doc, yaml.Strict()); err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	return string(data), doc
}

// TestUserDataIsReadBackAsTheSameConfiguration: by the source that reads what
// cloud-init keeps.
func TestUserDataIsReadBackAsTheSameConfiguration(t *testing.T) {
	l := provisiontest.Load(t, provisiontest.WithSecret)
	for _, o := range []Options{{}, {Install: &images.Remote{URL: "http://10.0.0.5/firstboot", SHA256: provisiontest.FakeDigest()}}} {
		data, _ := userData(t, l, o)
		root := t.TempDir()
		kept := filepath.Join(root, config.CloudConfigFile)
		if err := os.MkdirAll(filepath.Dir(kept), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(kept, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := config.Load(t.Context(), config.Options{Root: root})
		if err != nil {
			t.Fatal(err)
		}
		if again.Digest != l.Digest {
			t.Errorf("another configuration came back:\n%s", data)
		}
	}
}

func TestWriteFilesIsForRootAlone(t *testing.T) {
	l := provisiontest.Load(t, provisiontest.WithSecret)
	_, doc := userData(t, l, Options{WriteFiles: true})
	want := map[string]any{
		"bootcmd": []any{[]any{"mkdir", "-p", "-m", "0700", "/etc/firstboot"}},
		"write_files": []any{map[string]any{
			"path": config.MainFile, "owner": "root:root", "permissions": "0600", "content": string(l.Explicit()),
		}},
	}
	if d := cmp.Diff(want, doc); d != "" {
		t.Error(d)
	}
	// Without a secret nobody needs to be kept out of the folder.
	if _, doc = userData(t, provisiontest.Load(t, provisiontest.Minimal), Options{WriteFiles: true}); doc["bootcmd"] != nil {
		t.Error(doc["bootcmd"])
	}
}

// script is the boot command, which writes the installer.
func script(t *testing.T, url config.URL) string {
	t.Helper()
	_, doc := userData(t, provisiontest.Load(t, provisiontest.WithSecret), Options{Install: &images.Remote{URL: url, SHA256: provisiontest.FakeDigest()}})
	list, _ := doc["bootcmd"].([]any)
	if len(list) != 1 {
		t.Fatalf("bootcmd is %v", doc["bootcmd"])
	}
	return list[0].(string)
}

func TestInstallerIsRightShell(t *testing.T) {
	for _, url := range []config.URL{"http://10.0.0.5/firstboot?a=1&b=$(x);", "https://u:p%27w@h/firstboot.rpm", "http://h/firstboot_1_amd64.deb"} {
		outer := script(t, url)
		_, rest, _ := strings.Cut(outer, "<<'END-OF-FILE'\n")
		inner, _, _ := strings.Cut(rest, "\nEND-OF-FILE\n")
		if !strings.HasPrefix(inner, "#!/bin/sh\n") || !strings.Contains(inner, "\nurl='"+url.Reveal()+"'\n") {
			t.Fatalf("no installer for %s in:\n%s", url, outer)
		}
		for name, text := range map[string]string{"boot command": "#!/bin/sh\n" + outer, "installer": inner} {
			c := exec.CommandContext(t.Context(), "sh", "-n")
			c.Stdin = strings.NewReader(text)
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s\n%s", name, err, out, text)
			}
			if _, err := exec.LookPath("shellcheck"); err != nil {
				continue
			}
			c = exec.CommandContext(t.Context(), "shellcheck", "--severity=warning", "-")
			c.Stdin = strings.NewReader(text)
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("%s: shellcheck: %s", name, out)
			}
		}
	}
}

func TestInstallerByKindOfFile(t *testing.T) {
	for url, want := range map[config.URL]string{
		"http://h/firstboot":                 "mv -f \"$file\" /usr/bin/firstboot",
		"http://h/firstboot-1.x86_64.RPM":    "rpm -U --replacepkgs",
		"http://h/firstboot_1.deb?token=abc": "dpkg --force-confold --install",
	} {
		got := script(t, url)
		if !strings.Contains(got, want) {
			t.Errorf("%s: no %q", url, want)
		}
		if units := strings.Contains(got, "ExecStart=/usr/bin/firstboot run"); units != strings.HasSuffix(string(url), "/firstboot") {
			t.Errorf("%s: units written: %v", url, units)
		}
	}
}

func TestInstallIsRefused(t *testing.T) {
	for _, c := range []struct {
		from images.Remote
		want string
	}{
		{images.Remote{URL: "http://h/f"}, "cannot use --install without --sha256: nothing unverified is executed"},
		{images.Remote{URL: "http://h/f", SHA256: "AB" + provisiontest.FakeDigest()[2:]}, "not 64 lower-case"},
		{images.Remote{URL: "http://h/f", SHA256: provisiontest.FakeDigest()[:63]}, "not 64 lower-case"},
		{images.Remote{URL: "ftp://h/f", SHA256: provisiontest.FakeDigest()}, "not reached by http or https"},
		{images.Remote{URL: "http:///f", SHA256: provisiontest.FakeDigest()}, "not reached by http or https"},
		{images.Remote{URL: "http://h/f'x", SHA256: provisiontest.FakeDigest()}, "must be written as %XX"},
		{images.Remote{URL: "http://h/f\nx", SHA256: provisiontest.FakeDigest()}, "must be written as %XX"},
		{images.Remote{URL: "http://h/f.tar", SHA256: provisiontest.FakeDigest()}, "cannot install a .tar file"},
	} {
		_, err := UserData(provisiontest.Load(t, provisiontest.WithSecret), Options{Install: &c.from})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.from, err, c.want)
		}
	}
}

func TestSeed(t *testing.T) {
	seed := Seed{UserData: []byte("#cloud-config\n{}\n"), Hostname: "web-1", NetworkConfig: []byte("version: 2\nethernets: {}\n")}
	image, err := seed.ISO()
	if err != nil {
		t.Fatal(err)
	}
	read, err := iso9660.OpenImage(bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	if label, err := read.Label(); err != nil || label != "cidata" {
		t.Errorf("label %q, %v", label, err)
	}
	files, err := seed.Files()
	if err != nil || len(files) != 3 {
		t.Fatal(files, err)
	}
	if want := "instance-id: \"firstboot-7d7fc4a1cafc\"\nlocal-hostname: \"web-1\"\n"; string(files[1].Data) != want {
		t.Errorf("meta-data is %s, want %s", files[1].Data, want)
	}
}

func TestSeedIsRefused(t *testing.T) {
	for want, s := range map[string]Seed{
		"instance-id \"a b\"": {InstanceID: "a b"},
		"instance-id \"a\\nb": {InstanceID: "a\nb"},
		"host name \"Web\"":   {Hostname: "Web"},
		"not a YAML mapping":  {NetworkConfig: []byte("secret: [")},
		"it has no version":   {NetworkConfig: []byte("ethernets: {}")},
	} {
		_, err := s.ISO()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
