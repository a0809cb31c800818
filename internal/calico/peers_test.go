package calico

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// birdcl is the output of birdcl 1.6 with an established and a failed mesh peer, a
// node-specific and a global peer, and protocols that are not peers.
const birdcl = "BIRD v0.3.3+birdv1.6.8 ready.\r\n" +
	"name     proto    table    state  since       info\r\n" +
	"static1  Static   master   up     10:00:00    \r\n" +
	"direct1  Direct   master   up     10:00:00    \r\n" +
	"Mesh_10_0_0_3 BGP      master   up     10:00:05    Established   \r\n" +
	"Mesh_10_0_0_4 BGP      master   start  10:00:05    Connect       Socket: No route to host\r\n" +
	"Node_192_168_7_250 BGP master   start  2026-11-24  Active        Received: Administratively reset\r\n" +
	"Global_10_0_0_9 BGP    master   down   10:00:05    \r\n" +
	"bgp1     BGP      master   up     10:00:05    Established   \r\n"

func TestParsePeers(t *testing.T) {
	want := []Peer{
		{"10.0.0.3", true, "Established"},
		{"10.0.0.4", false, "Connect Socket: No route to host"},
		{"192.168.7.250", false, "Active Received: Administratively reset"},
		{"10.0.0.9", false, ""},
	}
	if d := cmp.Diff(want, parsePeers(birdcl)); d != "" {
		t.Error(d)
	}
	for _, text := range []string{"", "\n", "birdcl: unable to connect", "Mesh_10_0_0_3 BGP master up"} {
		if got := parsePeers(text); len(got) > 0 {
			t.Errorf("%q gives %v", text, got)
		}
	}
}

// FuzzParsePeers: for any input there is at most one peer per line, and only a
// peer whose line contains Established is established.
func FuzzParsePeers(f *testing.F) {
	f.Add(birdcl)
	f.Add("Mesh_ BGP a b c\n")
	f.Add("Mesh BGP a b c Established\n")
	f.Add("Node_10_0_0_1 BGP master up 1 Estab\x00lished")
	f.Fuzz(func(t *testing.T, text string) {
		peers := parsePeers(text)
		if len(peers) > strings.Count(text, "BGP") || len(peers) > strings.Count(text, "\n")+1 {
			t.Fatalf("%q gives %d peers", text, len(peers))
		}
		for _, p := range peers {
			if p.Established && !strings.Contains(text, "Established") || strings.ContainsAny(p.Address+p.State, "\n") {
				t.Fatalf("%q gives %+v", text, p)
			}
		}
	})
}
