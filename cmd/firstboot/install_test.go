package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A live system that cannot write its disk sends the status JSON to report.url,
// without secrets.
func TestFailedInstallIsReported(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("install needs root")
	}
	for _, c := range []struct {
		name, disk, state, text string
		code                    int
	}{
		{"missing image", "empty", "failed", "cannot read the image", 1},
		{"a disk with data", "data", "refused", "disk-holds-data", 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []byte
			var from string
			web := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				got, _ = io.ReadAll(r.Body)
				from = r.Header.Get("X-Firstboot-Host")
			}))
			t.Cleanup(web.Close)
			dir := t.TempDir()
			disk := make([]byte, 3<<20)
			if c.disk == "data" {
				copy(disk, "precious")
			}
			config := `etcd: {endpoints: ["http://10.0.0.1:2379"]}
pool: {cidr: 10.213.0.0/16}
host: {name: web-7}
node: {environment: {A: correct-horse}}
report: {url: "` + web.URL + `/done?token=hidden-token"}
`
			for name, data := range map[string][]byte{"disk": disk, "my.yaml": []byte(config)} {
				if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var out, errs bytes.Buffer
			code := execute([]string{"install", "--config", filepath.Join(dir, "my.yaml"), "--configure",
				"--image", filepath.Join(dir, "correct-horse.raw"), "--sha256", strings.Repeat("0", 64), "--disk", filepath.Join(dir, "disk")}, &out, &errs)
			if code != c.code {
				t.Errorf("exit code %d, want %d\n%s%s", code, c.code, &out, &errs)
			}
			var s struct {
				State, Version, Machine, ConfigDigest, Started, Finished string
				Config                                                   string `json:"config_digest"`
				Stages                                                   []struct{ Name, State, Error, Hint string }
			}
			if err := json.Unmarshal(got, &s); err != nil || len(s.Stages) != 1 {
				t.Fatalf("%v: %s\n%s%s", err, got, &out, &errs)
			}
			if st := s.Stages[0]; s.State != c.state || st.Name != "install" || st.State != "failed" || !strings.Contains(st.Error, c.text) ||
				from != "web-7" || s.Started == "" || s.Finished == "" || !strings.HasPrefix(s.Config, "sha256:") {
				t.Errorf("%s reported %s", from, got)
			}
			if strings.Contains(string(got), "correct-horse") || strings.Contains(string(got)+out.String(), "hidden-token") {
				t.Errorf("the report holds a secret: %s\n%s", got, &out)
			}
			if !strings.Contains(out.String(), "reported to "+web.URL) {
				t.Errorf("the console does not mention the report:\n%s", &out)
			}
		})
	}
}
