//go:build soak && integration

package images_test

import "testing"

// The README's way to an image from nothing, mmdebstrap included (2 minutes).
func TestTheREADMEMakesAnImageFromNothing(t *testing.T) {
	r := newReader(t, nil)
	r.paste("One configuration")
	r.paste("Golden image")
	r.run("chroot", "image", "dpkg-query", "--status", "docker.io", "rpm", "openssh-server")
}
