package stages

import (
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/internal/calico"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
)

func imageConfig() *config.Config {
	c := config.Default()
	c.Etcd.Endpoints = []string{"http://10.0.0.1:2379", "http://10.0.0.2:2379"}
	c.Docker.Network = config.NetworkGlobal
	return c
}

// imageFile returns the content that ImageFiles has for a path, "" if none.
func imageFile(t *testing.T, c *config.Config, h *host.Host, path string) string {
	t.Helper()
	files, err := ImageFiles(c, h)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Path == path {
			return string(f.Data)
		}
	}
	return ""
}

func TestImageFilesSetTheClusterStore(t *testing.T) {
	h := host.New(t.TempDir(), host.Offline())
	if err := h.WriteFile(dockerd.ConfigPath, []byte(`{"log-driver": "journald", "max-concurrent-downloads": 3}`), 0o644); err != nil {
		t.Fatal(err)
	}
	got := imageFile(t, imageConfig(), h, dockerd.ConfigPath)
	for _, want := range []string{`"cluster-store": "etcd://10.0.0.1:2379,10.0.0.2:2379"`, `"log-driver": "journald"`, `"max-concurrent-downloads": 3`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is missing in %s", want, got)
		}
	}
	if strings.Contains(got, "cluster-advertise") {
		t.Errorf("an image cannot know the host's address: %s", got)
	}
}

// TestConfigStageKeepsTheDaemonFileOfTheImage: the image does not know the
// machine's address. If the stage rewrote daemon.json at first boot, Docker would
// be restarted.
func TestConfigStageKeepsTheDaemonFileOfTheImage(t *testing.T) {
	h := host.New(t.TempDir(), host.Offline())
	c := imageConfig()
	baked := imageFile(t, c, h, dockerd.ConfigPath)
	if err := h.WriteFile(dockerd.ConfigPath, []byte(baked), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := files{&Env{Host: h, Config: c}}.daemonFile(t.Context())
	if err != nil || len(f) > 0 {
		t.Errorf("the stage expects %v, %v; the image has %s", f, err, baked)
	}
}

func TestImageFilesFollowTheConfiguration(t *testing.T) {
	h, c := host.New(t.TempDir(), host.Offline()), imageConfig()
	for _, mode := range []string{config.NetworkAuto, config.NetworkLocal} {
		c.Docker.Network = mode
		if got := imageFile(t, c, h, dockerd.ConfigPath); got != "" {
			t.Errorf("with docker.network %s got the daemon.json %s", mode, got)
		}
	}
	c.Docker.Network, c.Docker.ClusterStore = config.NetworkGlobal, config.ClusterStoreOff
	if got := imageFile(t, c, h, dockerd.ConfigPath); got != "" {
		t.Errorf("with docker.clusterStore off got the daemon.json %s", got)
	}
	if got := imageFile(t, c, h, calico.LinkPath); !strings.Contains(got, "MACAddressPolicy=none") {
		t.Errorf("%s is %q", calico.LinkPath, got)
	}
	if got := imageFile(t, c, h, networkManagerPath); got != "" {
		t.Errorf("without NetworkManager got %s", got)
	}
	if err := h.MkdirAll(networkManagerDir); err != nil {
		t.Fatal(err)
	}
	if got := imageFile(t, c, h, networkManagerPath); !strings.Contains(got, "cali*") {
		t.Errorf("%s is %q", networkManagerPath, got)
	}
}

// TestImageFilesRefuseWhatTheFirstBootWould covers files of an image that conflict
// with those to write.
func TestImageFilesRefuseWhatTheFirstBootWould(t *testing.T) {
	for path, data := range map[string]string{
		networkManagerConf + "/99-site.conf": "[keyfile]\nunmanaged-devices=mac:02:00:00:00:00:08\n",
		dockerd.ConfigPath:                   `{"cluster-store-opts": {"kv.cacertfile": "/ca"}}`,
	} {
		h := host.New(t.TempDir(), host.Offline())
		if err := h.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := ImageFiles(imageConfig(), h); err == nil || engine.Hint(err) == "" || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
