//go:build soak && integration

package images_test

import (
	"os"
	"path/filepath"
	"testing"
)

// TestREADMEBuildsAnImageWithMmdebstrap runs the README's commands if there is no
// image yet (2 minutes). mmdebstrap needs this machine's network, where no server
// provides artifacts, so the configuration names no artifacts.
func TestREADMEBuildsAnImageWithMmdebstrap(t *testing.T) {
	r := newReader(t, nil)
	const configuration = "etcd: {endpoints: [http://10.0.0.1:2379]}\npool: {cidr: 10.213.0.0/16}\n"
	if err := os.WriteFile(filepath.Join(r.dir, "my.yaml"), []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	r.paste("Golden image")
	r.run("chroot", "image", "dpkg-query", "--status", "docker.io", "rpm", "openssh-server")
}
