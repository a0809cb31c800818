package cluster

import (
	"bytes"
	"strings"
	"testing"
)

// FuzzEtcdValue: values of etcd that other hosts wrote are errors, or printable
// and short.
func FuzzEtcdValue(f *testing.F) {
	for _, s := range []string{
		`{"name":"a","state":"failed","error":"x","updated":"2025-01-01T00:00:00Z"}`, `{"owner":"host1","since":"2025-01-01T00:00:00Z"}`,
		`{"owner":"\u001b[2J"}`, `{"owner":1}`, "{", "null", "", `{"name":"a"}{"name":"b"}`, `{"state":"` + strings.Repeat("x", 20<<10) + `"}`,
	} {
		f.Add([]byte(s))
	}
	control := func(s string) bool { return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) }
	f.Fuzz(func(t *testing.T, value []byte) {
		if owner := decodeOwner(value); owner == "" || control(owner) {
			t.Errorf("owner %q", owner)
		}
		r, err := decodeRecord(value)
		if err != nil {
			if control(err.Error()) || len(err.Error()) > 1000 {
				t.Errorf("%q", err)
			}
			return
		}
		if control(r.Name + r.Address + r.Version + r.ConfigDigest + r.Machine + r.State + r.Stage + r.Error + r.Hint) {
			t.Errorf("%+v", r)
		}
		if data, err := encodeRecord(r); err == nil {
			again, err := decodeRecord(data)
			if err != nil {
				t.Fatalf("%v: %s", err, data)
			}
			if second, err := encodeRecord(again); err != nil || !bytes.Equal(second, data) {
				t.Errorf("%v: %s, want %s", err, second, data)
			}
		}
	})
}
