package dockerd

import "testing"

// TestImageHasAnyIDOfItsArchive: the ID is the configuration's digest or, in
// containerd's image store, the manifest's.
func TestImageHasAnyIDOfItsArchive(t *testing.T) {
	ids := []string{"sha256:config", "sha256:manifest"}
	for id, want := range map[string]bool{"sha256:config": true, "sha256:manifest": true, "sha256:other": false, "": false} {
		if got := (Image{ID: id}).IsOneOf(ids); got != want {
			t.Errorf("%q: got %v", id, got)
		}
	}
	if (Image{}).IsOneOf([]string{""}) {
		t.Error("a missing image has the empty ID of an archive")
	}
}

func TestSameImage(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"docker.io/calico/node:v3.23.0", "calico/node:v3.23.0", true},
		{"index.docker.io/library/debian", "debian:latest", true},
		{"registry:5000/calico/node", "registry:5000/calico/node:latest", true},
		{"calico/node@sha256:00", "calico/node@sha256:00", true},
		{"calico/node:v3.23.0", "calico/node:v3.22.0", false},
		{"quay.io/calico/node:v3.23.0", "calico/node:v3.23.0", false},
	} {
		if got := SameImage(test.a, test.b); got != test.want {
			t.Errorf("%s and %s: got %v", test.a, test.b, got)
		}
	}
}

func TestRelease(t *testing.T) {
	for version, want := range map[string][2]int{
		"20.10.24+dfsg1": {20, 10}, "Docker version 19.03.15, build 99e3ed8919": {19, 3}, "29.0.1": {29, 0}, "2.0.0-beta.15": {2, 0}, "dev": {},
	} {
		major, minor, ok := Release(version)
		if major != want[0] || minor != want[1] || ok != (want[0] > 0) {
			t.Errorf("%s: got %d.%d, %v", version, major, minor, ok)
		}
	}
}

func TestIsBridge(t *testing.T) {
	named := Network{Options: map[string]string{"com.docker.network.bridge.name": "web0"}}
	for name, want := range map[string]bool{"docker0": true, "docker_gwbridge": true, "br-0123456789ab": true, "web0": true, "br-lan": false, "br0": false} {
		if got := IsBridge(name, []Network{{}, named}); got != want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}
