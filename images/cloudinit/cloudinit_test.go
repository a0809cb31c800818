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
	"github.com/projecteru2/firstboot/internal/secret"
	"github.com/projecteru2/firstboot/test/program"
	"github.com/projecteru2/firstboot/test/provisiontest"
)

// userData renders user-data and parses it like cloud-init.
func userData(t *testing.T, l *config.Loaded, o Options) (string, map[string]any) {
	t.Helper()
	data, err := UserData(l, o)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(data, []byte("#cloud-config\n")) {
		t.Errorf("user-data does not begin with #cloud-config:\n%s", data)
	}
	var doc map[string]any
	if err := yaml.UnmarshalWithOptions(data, &doc, yaml.Strict()); err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	return string(data), doc
}

// The configuration source that reads cloud-init's file loads the same configuration
// again.
func TestUserDataIsReadBackAsTheSameConfiguration(t *testing.T) {
	l := provisiontest.Load(t, provisiontest.WithSecret)
	for _, o := range []Options{{}, {Install: &images.Remote{URL: "http://10.0.0.5/firstboot", SHA256: provisiontest.FakeDigest()}}} {
		data, _ := userData(t, l, o)
		root := t.TempDir()
		stored := filepath.Join(root, config.CloudConfigFile)
		if err := os.MkdirAll(filepath.Dir(stored), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(stored, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := config.Load(t.Context(), config.Options{Root: root})
		if err != nil {
			t.Fatal(err)
		}
		if again.Digest != l.Digest {
			t.Errorf("the configuration read back is different:\n%s", data)
		}
	}
}

func TestWriteFilesIsReadableByRootOnly(t *testing.T) {
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
	// Without a secret the directory may be readable.
	if _, doc = userData(t, provisiontest.Load(t, provisiontest.Minimal), Options{WriteFiles: true}); doc["bootcmd"] != nil {
		t.Error(doc["bootcmd"])
	}
}

// bootCommand returns the bootcmd, which writes the installer.
func bootCommand(t *testing.T, url secret.URL) string {
	t.Helper()
	_, doc := userData(t, provisiontest.Load(t, provisiontest.WithSecret), Options{Install: &images.Remote{URL: url, SHA256: provisiontest.FakeDigest()}})
	list, _ := doc["bootcmd"].([]any)
	if len(list) != 1 {
		t.Fatalf("bootcmd is %v", doc["bootcmd"])
	}
	return list[0].(string)
}

func TestInstallerIsValidShell(t *testing.T) {
	for _, url := range []secret.URL{"http://10.0.0.5/firstboot?a=1&b=$(x);", "https://u:p%27w@h/firstboot.rpm", "http://h/firstboot_1_amd64.deb"} {
		outer := bootCommand(t, url)
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
			t.Run("shellcheck "+name, func(t *testing.T) {
				c := exec.CommandContext(t.Context(), program.Need(t, "shellcheck"), "--severity=warning", "-")
				c.Stdin = strings.NewReader(text)
				if out, err := c.CombinedOutput(); err != nil {
					t.Errorf("shellcheck: %s", out)
				}
			})
		}
	}
}

func TestInstallerMatchesTheFileExtension(t *testing.T) {
	for url, want := range map[secret.URL]string{
		"http://h/firstboot":                 "mv -f \"$file\" /usr/bin/firstboot",
		"http://h/firstboot-1.x86_64.RPM":    "rpm -U --replacepkgs",
		"http://h/firstboot_1.deb?token=abc": "dpkg --force-confold --install",
	} {
		got := bootCommand(t, url)
		if !strings.Contains(got, want) {
			t.Errorf("%s: %q is missing", url, want)
		}
		if units := strings.Contains(got, "ExecStart=/usr/bin/firstboot run"); units != strings.HasSuffix(string(url), "/firstboot") {
			t.Errorf("%s: writes units: %v", url, units)
		}
	}
}

func TestInvalidInstallIsRefused(t *testing.T) {
	for _, c := range []struct {
		from images.Remote
		want string
	}{
		{images.Remote{URL: "http://h/f"}, "cannot use --install without --sha256: nothing unverified is executed"},
		{images.Remote{URL: "http://h/f", SHA256: "AB" + provisiontest.FakeDigest()[2:]}, "not 64 lowercase"},
		{images.Remote{URL: "http://h/f", SHA256: provisiontest.FakeDigest()[:63]}, "not 64 lowercase"},
		{images.Remote{URL: "ftp://h/f", SHA256: provisiontest.FakeDigest()}, "must begin with http:// or https://"},
		{images.Remote{URL: "http:///f", SHA256: provisiontest.FakeDigest()}, "has no host name"},
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

func TestSeedDiskHasItsLabelAndFiles(t *testing.T) {
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

func TestInvalidSeedIsRefused(t *testing.T) {
	for want, s := range map[string]Seed{
		"instance-id \"a b\"":                      {InstanceID: "a b"},
		"instance-id \"a\\nb":                      {InstanceID: "a\nb"},
		"host name \"Web\": must be in lower case": {Hostname: "Web"},
		"\"localhost\" is not a unique host name":  {Hostname: "localhost"},
		"is not a unique host name":                {Hostname: "localhost.localdomain"},
		"\"a..b\" is not an RFC 1123 name":         {Hostname: "a..b"},
		"\"-a\" is not an RFC 1123 name":           {Hostname: "-a"},
		"longer than 64 characters":                {Hostname: strings.Repeat("a", 65)},
		"not a YAML mapping":                       {NetworkConfig: []byte("secret: [")},
		"no version":                               {NetworkConfig: []byte("ethernets: {}")},
	} {
		_, err := s.ISO()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
