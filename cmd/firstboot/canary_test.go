package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/test/provisiontest"
)

// canaryMark is part of every secret of the test.
const canaryMark = "c4n4ry"

// canaryConfig returns a configuration with a secret wherever one can be.
func canaryConfig(calicoctl, digest string) string {
	return fmt.Sprintf(`etcd: {endpoints: ["http://10.0.0.1:2379"]}
pool: {cidr: 10.213.0.0/16}
timeouts: {download: 1s}
calicoctl: {url: %q, sha256: %s}
node: {url: "http://user:c4n4ry-image@127.0.0.1:1/image?token=c4n4ry-image-token", sha256: %s, environment: {API_TOKEN: c4n4ry-node}}
minions: {url: "http://user:c4n4ry-rpm@127.0.0.1:1/rpm?token=c4n4ry-rpm-token", sha256: %s, environment: {API_TOKEN: c4n4ry-minions}}
report: {url: "http://user:c4n4ry-report@127.0.0.1:1/c4n4ry-path?token=c4n4ry-report-token"}
proxy: {http: "http://user:c4n4ry-proxy@127.0.0.1:1", https: "http://user:c4n4ry-proxys@127.0.0.1:1"}
`, calicoctl, digest, digest, digest)
}

// The commands that work on files and images, in text and JSON.
func TestNoCommandOnFilesShowsASecret(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	const url = "http://user:c4n4ry-calicoctl@127.0.0.1:1/calicoctl?token=c4n4ry-calicoctl-token"
	write("good.yaml", canaryConfig(url, strings.Repeat("a", 64)), 0o600)
	for name, text := range map[string]string{
		"colon":    "node: {environment: {\"API_TOKEN:c4n4ry-colon\"}}\n",
		"block":    "node:\n  environment:\n    API_TOKEN:c4n4ry-block:\n",
		"type":     "node: {environment: [c4n4ry-list]}\n",
		"value":    "minions: {environment: {A: {b: c4n4ry-nested}}}\n",
		"url":      "report: {url: \"ftp://user:c4n4ry-ftp@host/c4n4ry-p\"}\n",
		"proxy":    "proxy: {http: \"user:c4n4ry-noscheme@host\"}\n",
		"badurl":   "calicoctl: {url: \"http://user:c4n4ry-%zz@host/x\"}\n",
		"password": "etcd: {passwordFile: /secret}\n",
		"twice":    "node: {environment: {A: c4n4ry-1, A: c4n4ry-2}}\n",
		"syntax":   "node: {environment: {A: c4n4ry-open\n",
	} {
		write("bad/"+name+".yaml", text, 0o600)
	}
	write("secret", "c4n4ry-password-file\n", 0o600)
	write("hosts.yaml", "hosts:\n- {mac: \"52:54:00:00:00:01\", name: a, config: {node: {environment: {H: c4n4ry-host}}}}\n", 0o600)
	write("pxe.yaml", "hosts:\n- mac: \"52:54:00:00:00:01\"\n  values: {report.url: \"http://127.0.0.1:1/c4n4ry-path-of-a-host\", proxy.http: \"http://127.0.0.1:1/?c4n4ry-proxy-of-a-host\"}\n", 0o600)
	missing := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(missing.Close)
	image := "http://user:c4n4ry-image-server@" + missing.Listener.Addr().String() + "/golden.raw?token=c4n4ry-image-token"
	write("disk", strings.Repeat("\x00", 1<<20), 0o600)
	write("used", strings.Repeat("data", 1<<18), 0o600)
	served, unlocked := servedConfig(t)
	write("served.yaml", served, 0o600)
	write("unlocked.yaml", unlocked, 0o600)
	for _, root := range []string{"image", "sealed"} {
		write(root+"/etc/os-release", "ID=debian\n", 0o644)
		write(root+"/etc/machine-id", "aaaa\n", 0o644)
		write(root+"/etc/firstboot/config.yaml", canaryConfig(url, strings.Repeat("a", 64)), 0o600)
	}
	commands := [][]string{
		{"validate", "good.yaml"}, {"config", "--config", "good.yaml"}, {"plan", "--root", "image"}, {"status", "--root", "image"},
		{"bake", "--root", "image", "--plan"}, {"bake", "--root", "image"}, {"bundle", "--config", "good.yaml", "--dir", "bundle"},
		{"seal", "--root", "sealed", "--plan"}, {"seal", "--root", "sealed", "--check"}, {"seal", "--root", "sealed"},
		{"render", "pxe", "--config", "good.yaml", "--hosts", "hosts.yaml"}, {"run", "--root", "image"}, {"config", "--root", "image"},
		{"logs", "--root", "image"}, {"leave", "--config", "good.yaml"}, {"verify", "--root", "image"},
		{"render", "cloud-init", "--config", "good.yaml", "user-data"}, {"render", "ignition", "--config", "good.yaml", "host.ign"},
		{"render", "ignition", "--config", "good.yaml", "--merge", "host.ign", "merged.ign"},
		{"render", "ignition", "--config", "good.yaml", "--butane=false", "--install", "http://127.0.0.1:1/f?token=c4n4ry-install", "--sha256", strings.Repeat("a", 64), "install.ign"},
		{"render", "pxe", "--config", "good.yaml", "--hosts", "pxe.yaml", "--dir", "pxe", "--url", "http://127.0.0.1:1", "--arg", "inst.x=http://127.0.0.1:1/?c4n4ry-argument"},
		{"bundle", "--config", "served.yaml", "--dir", "written"}, {"bundle", "--config", "unlocked.yaml", "--dir", "locked", "--lock", "--write"},
	}
	for _, args := range [][]string{{"--disk", "disk"}, {"--disk", "used"}, {"--disk", "used", "--wipe", "--yes"}, {"--disk", "nosuch"}, {"--disk", "disk", "http://user:c4n4ry-argument@127.0.0.1:1/?c4n4ry"}} {
		commands = append(commands, append([]string{"install", "--image", image, "--sha256", strings.Repeat("a", 64)}, args...))
	}
	bad, err := filepath.Glob("bad/*.yaml")
	if err != nil || len(bad) < 10 {
		t.Fatal(bad, err)
	}
	for _, name := range bad {
		commands = append(commands, []string{"validate", "good.yaml", name}, []string{"config", "--config", "good.yaml", "--config", name},
			[]string{"render", "cloud-init", "--config", "good.yaml", "--config", name}, []string{"render", "ignition", "--config", "good.yaml", "--config", name})
	}
	codes := map[int]int{}
	for _, command := range commands {
		for _, format := range []string{"text", "json"} {
			var out, errs bytes.Buffer
			code := execute(append(command, "-o", format), &out, &errs)
			codes[code]++
			line := fmt.Sprintf("%s -o %s (exit code %d)", strings.Join(command, " "), format, code)
			noMark(t, "stdout of "+line, out.String())
			noMark(t, "stderr of "+line, errs.String())
		}
	}
	if codes[0] < 20 || codes[3] < 60 || codes[1] == 0 || codes[2] == 0 {
		t.Errorf("the commands ended with %v: too few succeeded or failed", codes)
	}
	if _, err := os.Stat("written/manifest.json"); err != nil {
		t.Errorf("no bundle was written: %v", err)
	}
	privateFilesOnly(t, ".")
}

// servedConfig returns a configuration whose artifacts a server has, with and without
// their digests. Their URLs contain secrets.
func servedConfig(t *testing.T) (locked, unlocked string) {
	t.Helper()
	files := map[string][]byte{"/image": provisiontest.ImageArchive(t, "calico/node:v3.23.0"), "/rpm": provisiontest.Package(t, "eru-minions", "noarch")}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password == "c4n4ry-served" && r.URL.RawQuery == "token=c4n4ry-served-token" {
			_, _ = w.Write(files[r.URL.Path])
			return
		}
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(server.Close)
	base := "http://user:c4n4ry-served@" + strings.TrimPrefix(server.URL, "http://")
	config := func(pin func(path string) string) string {
		return fmt.Sprintf("etcd: {endpoints: [\"http://10.0.0.1:2379\"]}\npool: {cidr: 10.213.0.0/16}\nnode: {url: \"%[1]s/image?token=c4n4ry-served-token\"%[2]s}\nminions: {url: \"%[1]s/rpm?token=c4n4ry-served-token\"%[3]s}\n",
			base, pin("/image"), pin("/rpm"))
	}
	locked = config(func(path string) string { return fmt.Sprintf(", sha256: %x", sha256.Sum256(files[path])) })
	return locked, config(func(string) string { return "" })
}

// isOfBootServer reports whether a file is one that the web server reads through its
// group.
func isOfBootServer(path string, mode fs.FileMode) bool {
	return strings.HasPrefix(path, "pxe/") && mode.Perm() == 0o640
}

func noMark(t *testing.T, where, text string) {
	t.Helper()
	if at := strings.Index(text, canaryMark); at >= 0 {
		t.Errorf("%s shows a secret: …%s…", where, text[max(0, at-100):min(len(text), at+40)])
	}
}

// privateFilesOnly verifies that secrets are only in files that others cannot read.
func privateFilesOnly(t *testing.T, dir string) {
	t.Helper()
	private := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		switch {
		case info.Mode().Perm()&0o077 != 0 && !isOfBootServer(path, info.Mode()):
			noMark(t, fmt.Sprintf("%s with mode %04o", path, info.Mode().Perm()), string(data))
		case bytes.Contains(data, []byte(canaryMark)):
			private++
		}
		return err
	})
	if err != nil || private < 24 {
		t.Errorf("%d private files with secrets, %v", private, err)
	}
}
