package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/test/lab/golden"
)

func TestSelectLine(t *testing.T) {
	for line, want := range map[string]string{
		"[   24.099796] firstboot[161]: firstboot: preflight (1/9) done, 5.5s (ok)":             "firstboot: preflight (1/9) done, 5.5s (ok)",
		"host2 login: [   25.1] firstboot[161]: firstboot: config    (4/9) done, 1s (changed) ": "firstboot: config    (4/9) done, 1s (changed)",
		"firstboot: minions   (7/10) done, 53.4s (changed)":                                     "firstboot: minions   (7/10) done, 53.4s (changed)",
		"host1 login: firstboot: node      (6/10) done, 9s (changed)":                           "firstboot: node      (6/10) done, 9s (changed)",
		"Debian GNU/Linux 12 host2 ttyS0":                                                       "(the console's login prompt)",
		"[    1.2] Kernel panic - not syncing: no init found":                                   "[    1.2] Kernel panic - not syncing: no init found",
		"SELinux:  Could not open policy file":                                                  "",
		"[   27.478547] dockerd[161]: firstboot is not mentioned":                               "",
	} {
		if got, shown := selectLine(line); got != want || shown != (want != "") {
			t.Errorf("selectLine(%q) = %q, %v, want %q", line, got, shown, want)
		}
	}
}

func TestReadSettings(t *testing.T) {
	for name, value := range map[string]string{"DEBIAN": "mixed", "HOSTS": "3", "KEEP": "1", "CALICOCTL": "/c", "NODE_IMAGE": "/n", "MINIONS_RPM": "/m", "FIRSTBOOT": "/f"} {
		t.Setenv(name, value)
	}
	s, err := readSettings()
	if err != nil || s.hosts != 3 || !s.keep || s.firstboot != "/f" || s.parts.Calicoctl != "/c" || s.parts.NodeImage != "/n" || s.parts.MinionsRPM != "/m" {
		t.Errorf("settings are %+v (%v)", s, err)
	}
	if want := []golden.Release{golden.Debian12, golden.Debian13}; !slices.Equal(s.cluster.debian, want) || s.cluster.etcd.NoV2 {
		t.Errorf("a mixed cluster is %+v", s.cluster)
	}
	if got := s.cluster.waves(3); !cmp.Equal(got, [][]int{{0, 2}, {1}}) {
		t.Errorf("the hosts of a mixed cluster start in %v", got)
	}
	t.Setenv("DEBIAN", "13")
	if s, err := readSettings(); err != nil || !slices.Equal(s.cluster.debian, []golden.Release{golden.Debian13}) || !s.cluster.etcd.NoV2 {
		t.Errorf("the cluster of DEBIAN=13 is %+v (%v)", s.cluster, err)
	}
	t.Setenv("DEBIAN", "11")
	if _, err := readSettings(); err == nil || !strings.Contains(err.Error(), "DEBIAN=11 is not 13, 12 or mixed") {
		t.Errorf("DEBIAN=11: %v", err)
	}
	t.Setenv("DEBIAN", "")
	t.Setenv("HOSTS", "")
	t.Setenv("KEEP", "0")
	if s, err := readSettings(); err != nil || s.hosts != 2 || s.keep || s.cluster.debian == nil {
		t.Errorf("default settings are %+v (%v)", s, err)
	}
	for _, invalid := range []string{"0", "-1", "two"} {
		t.Setenv("HOSTS", invalid)
		if _, err := readSettings(); err == nil || !strings.Contains(err.Error(), "HOSTS="+invalid) {
			t.Errorf("HOSTS=%s: %v", invalid, err)
		}
	}
}

func TestTitlesAreBoldOnATerminalOnly(t *testing.T) {
	var out bytes.Buffer
	s := &screen{out: &out, start: time.Now()}
	s.title("The hosts")
	s.step("built %d", 1)
	if got := out.String(); got != "\nThe hosts\n     0s  built 1\n" {
		t.Errorf("printed %q", got)
	}
	out.Reset()
	s.colour = true
	s.title("The hosts")
	if got := out.String(); got != "\n\x1b[1mThe hosts\x1b[0m\n" {
		t.Errorf("printed on a terminal: %q", got)
	}
}
