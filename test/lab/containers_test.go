package lab

import (
	"slices"
	"testing"
)

func TestParseSessions(t *testing.T) {
	const output = `BIRD 1.6.8 ready.
name     proto    table    state  since       info
kernel1  Kernel   master   up     15:43:13
Mesh_10_123_0_12 BGP      master   up     15:43:15    Established
Mesh_10_123_0_13 BGP      master   start  15:43:15    Active        Socket: Connection refused
Node_10_123_0_14 BGP      master   start  2026-11-24  Connect
static1  Static   master   up     15:43:48
`
	want := []BGPSession{
		{"10.123.0.12", "up", "Established"},
		{"10.123.0.13", "start", "Active        Socket: Connection refused"},
		{"10.123.0.14", "start", "Connect"},
	}
	if got := parseSessions(output); !slices.Equal(got, want) {
		t.Errorf("sessions are %q, want %q", got, want)
	}
}

func TestPingSummary(t *testing.T) {
	const output = "64 bytes from 10.213.0.1: seq=4 ttl=62 time=2.1 ms\n\n--- 10.213.0.1 ping statistics ---\n5 packets transmitted, 4 packets received, 20% packet loss\nround-trip min/avg/max = 1/2/3 ms\n"
	if got := pingSummary(output); got != "5 packets transmitted, 4 packets received, 20% packet loss" {
		t.Errorf("the summary is %q", got)
	}
	if got := pingSummary("sh: ping: not found\n"); got != "no summary" {
		t.Errorf("without a summary: %q", got)
	}
}
