package artifact

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"strings"
	"testing"
)

// archive makes a tar file of name, content pairs.
func archive(t testing.TB, pairs ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for i := 0; i < len(pairs); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: pairs[i], Size: int64(len(pairs[i+1])), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, pairs[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func compressed(t testing.TB, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestReadImageArchive(t *testing.T) {
	id := digestOf([]byte("config"))
	manifest := func(config string, tags string) string {
		return `[{"Config":"` + config + `","RepoTags":` + tags + `,"Layers":["a/layer.tar"]}]`
	}
	layer := string(noise(100_000))
	config, stated := "sha256:"+id, "sha256:"+digestOf([]byte("manifest"))
	index := func(digests ...string) string {
		return `{"schemaVersion":2,"manifests":[{"digest":"` + strings.Join(digests, `"},{"digest":"`) + `"}]}`
	}
	tagged := manifest(id+".json", `["a:1"]`)
	for what, test := range map[string]struct {
		data []byte
		want string
	}{
		"docker 20.10":           {archive(t, "a/layer.tar", layer, id+".json", "config", "manifest.json", manifest(id+".json", `["calico/node:v3.23.0"]`)), "[calico/node:v3.23.0] [" + config + "]"},
		"docker 25":              {archive(t, "blobs/sha256/"+id, "config", "index.json", index(stated), "manifest.json", manifest("blobs/sha256/"+id, `["calico/node:v3.23.0","calico/node:latest"]`)), "[calico/node:v3.23.0 calico/node:latest] [" + config + " " + stated + "]"},
		"manifest first":         {archive(t, "./manifest.json", tagged, "a/layer.tar", layer, "./index.json", index(stated)), "[a:1] [" + config + " " + stated + "]"},
		"index with two tags":    {archive(t, "index.json", index(stated, stated), "manifest.json", tagged), "[a:1] [" + config + " " + stated + "]"},
		"index without a digest": {archive(t, "index.json", index("md5:1"), "manifest.json", tagged), "[a:1] [" + config + "]"},
		"damaged index":          {archive(t, "index.json", "{", "manifest.json", tagged), "[a:1] [" + config + "]"},
		"gzip":                   {compressed(t, archive(t, "a/layer.tar", layer, "manifest.json", tagged)), "[a:1] [" + config + "]"},
		"without tags":           {archive(t, "manifest.json", manifest(id+".json", `null`)), "[] [" + config + "]"},
		"config name without ID": {archive(t, "./manifest.json", manifest("config", `["a:1"]`), "index.json", index(stated)), "[a:1] []"},
		"two images":             {archive(t, "index.json", index(stated), "manifest.json", `[{"Config":"`+id+`.json","RepoTags":["a:1"]},{"Config":"`+id+`.json","RepoTags":["b:2"]}]`), "[a:1 b:2] []"},
		"escape sequence":        {archive(t, "manifest.json", manifest(id, `["\u001b[2J"]`)), "[?[2J] [" + config + "]"},
	} {
		got, err := ReadImageArchive(file(t, test.data))
		if text := fmt.Sprint(got.Tags, " ", got.IDs); err != nil || text != test.want {
			t.Errorf("%s: %s, %v; want %s", what, text, err, test.want)
		}
	}
}

func TestReadImageArchiveRejectsOtherFiles(t *testing.T) {
	many := make([]string, 2*(maxArchiveFiles+1))
	for i := range many {
		if many[i] = ""; i%2 == 0 {
			many[i] = fmt.Sprint("f", i)
		}
	}
	good := archive(t, "manifest.json", `[{"Config":"c","RepoTags":["a:1"]}]`)
	for what, data := range map[string][]byte{
		"empty": nil, "an HTML page": []byte("<html>not found</html>"), "a truncated tar": good[:530], "a truncated gzip": compressed(t, good)[:40],
		"xz": {0xfd, '7', 'z', 'X', 'Z', 0, 0}, "zstd": {0x28, 0xb5, 0x2f, 0xfd, 0, 0, 0}, "invalid bzip2": []byte("BZh9aaaaaaaa"),
		"no manifest": archive(t, "other.json", "[]"), "an empty manifest": archive(t, "manifest.json", "[]"),
		"invalid JSON": archive(t, "manifest.json", "{"), "a large manifest": archive(t, "manifest.json", strings.Repeat(" ", maxImageManifest+1)),
		"too many files": archive(t, many...),
		"too many tags":  archive(t, "manifest.json", `[{"RepoTags":["a"`+strings.Repeat(`,"a"`, maxTags)+`]}]`),
	} {
		if got, err := ReadImageArchive(file(t, data)); err == nil {
			t.Errorf("%s: %v", what, got)
		}
	}
}

func FuzzReadImageArchive(f *testing.F) {
	good := archive(f, "a", "b", "manifest.json", `[{"Config":"`+digestOf(nil)+`.json","RepoTags":["a:1"]}]`)
	f.Add(good)
	f.Add(compressed(f, good))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > maxFuzzed {
			return
		}
		got, err := readImageArchive(bytes.NewReader(data))
		if text := strings.Join(append(got.Tags, got.IDs...), ""); err == nil && strings.ContainsAny(text, "\x1b\n\r") {
			t.Errorf("%q", text)
		}
	})
}
