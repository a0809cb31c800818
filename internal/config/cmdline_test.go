package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestSplitCmdline follows the kernel's own parser (lib/cmdline.c, next_arg).
func TestSplitCmdline(t *testing.T) {
	type arg struct {
		name, value string
		valued      bool
	}
	for _, c := range []struct {
		line string
		want []arg
	}{
		{"", nil},
		{"  \t\n", nil},
		{"quiet", []arg{{"quiet", "", false}}},
		{"a=1  b=2\tc=\n", []arg{{"a", "1", true}, {"b", "2", true}, {"c", "", true}}},
		{`a="x y" b`, []arg{{"a", "x y", true}, {"b", "", false}}},
		{`"a=x y" b`, []arg{{"a", "x y", true}, {"b", "", false}}},
		{`a="x=y"`, []arg{{"a", "x=y", true}}},
		{`a=x=y`, []arg{{"a", "x=y", true}}},
		{`a="open quote b=1`, []arg{{"a", "open quote b=1", true}}},
		{`a=1 -- b=2`, []arg{{"a", "1", true}}},
	} {
		var got []arg
		for _, a := range splitCmdline(c.line) {
			got = append(got, arg{a.name, a.value, a.hasValue})
		}
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(arg{})); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.line, diff)
		}
	}
}

// TestCmdline reads values of every type.
func TestCmdline(t *testing.T) {
	for _, c := range []struct{ line, path, want string }{
		{"firstboot.pool.cidr=10.9.0.0/16", "pool.cidr", `"10.9.0.0/16"`},
		{"firstboot.pool.cidr=10.8.0.0/16 firstboot.pool.cidr=10.9.0.0/16", "pool.cidr", `"10.9.0.0/16"`},
		{"firstboot.sysctl.net.ipv4.ip_forward=1", "sysctl.net.ipv4.ip_forward", `"1"`},
		{"firstboot.sysctl.net.ipv4.conf.eth0/5.rp_filter=0", "sysctl.net.ipv4.conf.eth0/5.rp_filter", `"0"`},
		{`firstboot.sysctl.net.ipv4.ip_local_port_range="1024 65000"`, "sysctl.net.ipv4.ip_local_port_range", `"1024 65000"`},
		{"firstboot.etcd.endpoints=http://a:1,http://b:2", "etcd.endpoints", `["http://a:1", "http://b:2"]`},
		{"firstboot.preflight.ignore=", "preflight.ignore", `[]`},
		{"firstboot.node.environment.FELIX_A=b=c", "node.environment.FELIX_A", `"b=c"`},
		{"firstboot.pool.natOutgoing=false", "pool.natOutgoing", `false`},
		{"firstboot.pool.blockSize=28", "pool.blockSize", `28`},
		{"firstboot.node.asNumber=4200000000", "node.asNumber", `4200000000`},
		{"firstboot.timeouts.total=1h", "timeouts.total", `"1h0m0s"`},
		{"firstboot.timeouts.total=0", "timeouts.total", `"0s"`},
		{"firstboot.host.name=007", "host.name", `"007"`},
		{"firstboot.install.image=http://a/b firstboot.install.wipe=true firstboot.host.name=a", "host.name", `"a"`},
	} {
		d, _ := decodeCmdline("ro quiet " + c.line + " console=ttyS0\n")
		if len(d.problems) > 0 {
			t.Errorf("%s: %v", c.line, d.problems)
		} else if got := encode(d.layer[c.path].data, reveal); got != c.want {
			t.Errorf("%s: %s = %s, want %s", c.line, c.path, got, c.want)
		}
	}
}

// TestCmdlineProblems: problems have a column.
func TestCmdlineProblems(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"ro firstboot.pool.cdir=x", `kernel command line:1:4: unknown key "pool.cdir" (did you mean "cidr"?)`},
		{"firstboot.pol.cidr=x", `kernel command line:1:1: unknown key "pol.cidr" (did you mean "pool.cidr"?)`},
		{"firstboot.pool=x", `kernel command line:1:1: "firstboot.pool" needs a key (write firstboot.pool.NAME=VALUE)`},
		{"firstboot.sysctl=1", `kernel command line:1:1: "firstboot.sysctl" needs a key (write firstboot.sysctl.NAME=VALUE)`},
		{"firstboot.pool.natOutgoing", `kernel command line:1:1: "firstboot.pool.natOutgoing" needs a value (write firstboot.pool.natOutgoing=VALUE)`},
		{"firstboot.pool.natOutgoing=yes", `kernel command line:1:1: pool.natOutgoing: must be true or false (write true)`},
		{"firstboot.pool.blockSize=026", `kernel command line:1:1: pool.blockSize: must be a whole number in decimal notation`},
		{"é firstboot.timeouts.node=10", `kernel command line:1:3: timeouts.node: must be a duration such as 90s, 10m or 1h30m (did you mean "10s"?)`},
		{"firstboot.\x0f.\u202ex=1", `kernel command line:1:1: unknown key`},
		{"firstboot.x=\xff", `kernel command line:1:1: an argument of firstboot is not UTF-8 text`},
	} {
		d, _ := decodeCmdline(c.line)
		if len(d.problems) != 1 || d.problems[0].Error() != c.want {
			t.Errorf("%q:\ngot  %v\nwant %s", c.line, d.problems, c.want)
		}
	}
	for _, line := range []string{"firstboot=1", "firstbootx.y=1", "notfirstboot.pool=1", "a -- firstboot.x=1"} {
		if d, _ := decodeCmdline(line); len(d.problems) > 0 || len(d.layer) > 0 {
			t.Errorf("%q is not an argument of firstboot: %v", line, d.problems)
		}
	}
}

// TestCmdlineOfAnImageIsIgnored: this kernel did not boot the image, so
// /proc/cmdline is not read for its root directory.
func TestCmdlineOfAnImageIsIgnored(t *testing.T) {
	root := rootWith(t, map[string]string{MainFile: minimal, "/proc/cmdline": "firstboot.pool.name=other\n"})
	if l := mustLoad(t, Options{Root: root}); l.Config.Pool.Name != "firstboot" {
		t.Errorf("pool.name = %s", l.Config.Pool.Name)
	}
	if l := mustLoad(t, Options{Root: root, Cmdline: "firstboot.pool.name=other", NoCmdline: true}); l.Config.Pool.Name != "firstboot" {
		t.Errorf("NoCmdline: pool.name = %s", l.Config.Pool.Name)
	}
	if l := mustLoad(t, Options{Root: root, Cmdline: "firstboot.pool.name=other"}); l.Config.Pool.Name != "other" {
		t.Errorf("pool.name = %s", l.Config.Pool.Name)
	}
}

func TestInstallArguments(t *testing.T) {
	got := InstallArguments("ro firstboot.install.disk=/dev/vda firstboot.install.wipe firstboot.install.image=\"http://a/b\" firstboot.pool.name=x -- firstboot.install.disk=/dev/vdb\n")
	if diff := cmp.Diff(map[string]string{"disk": "/dev/vda", "image": "http://a/b"}, got); diff != "" {
		t.Error(diff)
	}
}
