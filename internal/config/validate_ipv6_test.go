package config

import (
	"strings"
	"testing"
)

// TestIPv6ServerIsRefusedWhereIPv6IsDisabled: by its key, or for a global network.
func TestIPv6ServerIsRefusedWhereIPv6IsDisabled(t *testing.T) {
	const pool = "pool: {cidr: 10.213.0.0/16}\n"
	const etcd = "etcd: {endpoints: [\"http://10.0.0.1:2379\"]}\n" + pool
	const global = "docker: {network: global}\n"
	for _, c := range []struct{ text, path string }{
		{pool + global + "etcd: {endpoints: [\"http://[::1]:2379\"]}\n", "etcd.endpoints"},
		{pool + global + "etcd: {endpoints: [\"http://10.0.0.1:2379\", \"http://[2001:db8::1]:2379\"]}\n", "etcd.endpoints"},
		{pool + "etcd: {endpoints: [\"http://[fd00::1]:2379\"]}\nsysctl: {net.ipv6.conf.all.disable_ipv6: 0x1}\n", "etcd.endpoints"},
		{etcd + "docker: {clusterStore: \"etcd://[fd00::1]:2379\"}\n", "docker.clusterStore"},
		{etcd + global + "report: {url: \"http://[fd00::1]/done\"}\n", "report.url"},
	} {
		got := problemLines(t, c.text)
		if len(got) != 1 || !strings.Contains(got[0], c.path+": ") || !strings.Contains(got[0], "disables IPv6 on this host (use an IPv4 address)") {
			t.Errorf("%s%q", c.text, got)
		}
	}
	for _, text := range []string{
		pool + "etcd: {endpoints: [\"http://[::1]:2379\"]}\n",
		pool + global + "etcd: {endpoints: [\"http://[::1]:2379\"]}\nsysctl: {net.ipv6.conf.all.disable_ipv6: 0}\n",
		pool + "etcd: {endpoints: [\"http://[::ffff:10.0.0.1]:2379\"]}\n",
		pool + "etcd: {endpoints: [\"http://etcd.example.com:2379\"]}\n",
	} {
		if got := problemLines(t, text); got != nil {
			t.Errorf("%s%q", text, got)
		}
	}
	l, err := loadText(t, etcd+global+"calicoctl: {url: \"http://[fd00::1]/calicoctl\", sha256: "+sampleDigest+"}\n")
	if err != nil || !strings.Contains(Problems(l.Warnings).Error(), "calicoctl.url: \"fd00::1\" cannot be reached") {
		t.Errorf("a download: %v", err)
	}
}
