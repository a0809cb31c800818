package minions

import (
	"slices"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/internal/cluster"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/secret"
)

// id returns an endpoint's ID.
func id(digit string) string { return strings.Repeat(digit, 64) }

// link returns the name of an endpoint's interface.
func link(digit string) string { return "cali" + strings.Repeat(digit, 11) }

func TestOnlyEndpointsOfLostContainersAreStale(t *testing.T) {
	h := host.New(t.TempDir())
	s := Stale{Host: h, Node: "host1"}
	ours := func(digit string) cluster.Endpoint {
		return cluster.Endpoint{Node: "host1", Orchestrator: "libnetwork", ID: id(digit)}
	}
	all := []cluster.Endpoint{
		ours("1"),
		ours("2"), // its interface exists
		{Node: "host1", Orchestrator: "libnetwork", ID: id("3"), Interface: "other0"},
		{Node: "host2", Orchestrator: "libnetwork", ID: id("4")},
		{Node: "host1", Orchestrator: "k8s", ID: id("5")},
		{Node: "host1", Orchestrator: "libnetwork", ID: "eth0"},
		ours("6"),
		ours("7"), // Docker did not move its interface into a container
		ours("8"), // the adapter created it
		ours("9"), // so too, and its interface exists
	}
	links := map[string]bool{
		link("2"): true, "other0": true, link("7"): true, "temp" + strings.Repeat("7", 11): true, link("9"): true,
	}
	for _, name := range []string{id("8"), id("9") + ".unused"} {
		if err := h.WriteFile("/run/firstboot/adapter/endpoints/"+name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := func(what string, digits ...string) {
		t.Helper()
		var got []string
		for _, e := range s.endpoints(all, links) {
			got = append(got, e.ID[:1])
		}
		if !slices.Equal(got, digits) {
			t.Errorf("%s: stale are %q, want %q", what, got, digits)
		}
	}
	want("without Docker's data", "1", "6", "7", "8")
	if err := h.WriteFile("/var/lib/docker/containers/c/config.v2.json", []byte(`{"EndpointID":"`+id("1")+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	want("with Docker's data, which names one of them", "1", "7", "8")
}

func TestOnlyLinksWithoutEndpointAreLeftOver(t *testing.T) {
	s := Stale{Node: "host1"}
	endpoints := []cluster.Endpoint{
		{Node: "host1", ID: id("1")},
		{Node: "host1", ID: "short", Interface: link("2")},
		{Node: "host2", ID: id("3")},
	}
	links := map[string]bool{
		link("1"): true, "temp" + strings.Repeat("1", 11): true, link("2"): true,
		link("3"): true, "temp" + strings.Repeat("4", 11): true, "cali123": true, "eth0": true,
	}
	want := []string{link("3"), "temp" + strings.Repeat("4", 11)}
	if got := s.withoutEndpoint(endpoints, links); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNamespace(t *testing.T) {
	c := config.Default()
	if got := Namespace(c, "host1"); got != "host1" {
		t.Errorf("got %q", got)
	}
	c.Minions.Environment = map[string]secret.Value{namespaceVariable: "shared"}
	if got := Namespace(c, "host1"); got != "shared" {
		t.Errorf("got %q", got)
	}
}
