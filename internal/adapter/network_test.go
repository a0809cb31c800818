package adapter

import (
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"os"
)

func TestNetworkIsReadAsItWasWritten(t *testing.T) {
	m := newMachine(t)
	if _, err := Load(m.Host); !errors.Is(err, NotSetUpError{}) {
		t.Fatalf("before: %v", err)
	}
	want := Network{"firstboot-docker-pool.1", netip.MustParsePrefix("10.213.0.0/16")}
	if err := want.Save(m.Host); err != nil {
		t.Fatal(err)
	}
	if got, err := Load(m.Host); err != nil || got != want {
		t.Errorf("%v %v, want %v", got, err, want)
	}
	if info, err := os.Stat(filepath.Join(m.Root(), Path)); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

func TestOnlyGoodNetworksAreWritten(t *testing.T) {
	m := newMachine(t)
	pool := netip.MustParsePrefix("10.213.0.0/16")
	for _, n := range []Network{
		{"", pool}, {"a b", pool}, {"../x", pool}, {strings.Repeat("x", 400), pool}, {"x", netip.Prefix{}},
		{"x", netip.MustParsePrefix("10.213.0.1/16")}, {"x", netip.MustParsePrefix("fd00::/64")},
	} {
		if err := n.Save(m.Host); err == nil || !strings.HasPrefix(err.Error(), "cannot write "+Path) {
			t.Errorf("%v: %v", n, err)
		}
	}
	if m.Exists(Path) {
		t.Error("a file was written")
	}
}

func TestDamagedFiles(t *testing.T) {
	for text, want := range map[string]string{
		"":     "EOF",
		"null": "schema 0 is not supported",
		`{"schema":2,"networkID":"x","cidr":"10.0.0.0/8"}`:            "schema 2 is not supported, only 1",
		`{"schema":1,"networkID":"x","cidr":"10.0.0.0/8","y":1}`:      `unknown field "y"`,
		`{"schema":1,"networkID":"x","cidr":"10.0.0.0/8"} {}`:         "more than one JSON value",
		`{"schema":1,"networkID":"","cidr":"10.0.0.0/8"}`:             `"" is not a network ID`,
		`{"schema":1,"networkID":"a\nb","cidr":"10.0.0.0/8"}`:         "is not a network ID",
		`{"schema":1,"networkID":"x","cidr":"10.0.0.1/8"}`:            `"10.0.0.1/8" is not a masked IPv4 network`,
		`{"schema":1,"networkID":"x","cidr":"::ffff:10.0.0.0/104"}`:   "is not a",
		`{"schema":1,"networkID":"x","cidr":"x"}`:                     `cidr "x" is not a network`,
		`{"schema":1,"networkID":"x"}` + strings.Repeat(" ", maxFile): "larger than 4096 bytes",
	} {
		if n, err := parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, %v, want %q", text, n, err, want)
		}
	}
}

func FuzzNetworkFile(f *testing.F) {
	for _, s := range []string{"", "null", `{"schema":1,"networkID":"firstboot-pool","cidr":"10.213.0.0/16"}`, `{"schema":1,"networkID":"x","cidr":"::/0"}`, "[["} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := parse(data)
		if err == nil && n.validate() != nil {
			t.Errorf("%q: %v is not valid", data, n)
		}
	})
}
