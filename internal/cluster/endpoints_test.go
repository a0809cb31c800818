package cluster

import (
	"strings"
	"testing"
	"unicode"
)

func TestDecodeEndpoint(t *testing.T) {
	const value = `{"kind":"WorkloadEndpoint","metadata":{"name":"host1-libnetwork-libnetwork-ab12","namespace":"host1"},` +
		`"spec":{"node":"host1","orchestrator":"libnetwork","workload":"libnetwork","endpoint":"ab12","interfaceName":"caliab12","ipNetworks":["10.213.0.1/32"]}}`
	got, err := decodeEndpoint([]byte(value))
	want := Endpoint{Name: "host1-libnetwork-libnetwork-ab12", Node: "host1", Orchestrator: "libnetwork", ID: "ab12", Interface: "caliab12"}
	if err != nil || got != want {
		t.Errorf("got %+v and %v, want %+v", got, err, want)
	}
	for _, text := range []string{"", "null", "[]", `{"kind":"Node","metadata":{"name":"x"}}`, `{"kind":"WorkloadEndpoint","metadata":{"name":"a\nb"}}`,
		`{"kind":"WorkloadEndpoint","metadata":{"name":"x"},"spec":{"node":7}}`} {
		if got, err := decodeEndpoint([]byte(text)); err == nil {
			t.Errorf("%q: got %+v, want an error", text, got)
		}
	}
}

func FuzzEndpoint(f *testing.F) {
	for _, s := range []string{"", "{}", `{"kind":"WorkloadEndpoint","metadata":{"name":"x"},"spec":{"node":"h","endpoint":"\u001b[31m"}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		e, err := decodeEndpoint(value)
		if err != nil {
			return
		}
		for _, text := range []string{e.Name, e.Node, e.Orchestrator, e.ID, e.Interface} {
			if len(text) > maxName+100 || strings.ContainsFunc(text, unicode.IsControl) {
				t.Errorf("%q is not safe to print", text)
			}
		}
	})
}
