package cluster

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// These values were written by calicoctl 3.23.0.
const (
	poolValue     = `{"kind":"IPPool","apiVersion":"projectcalico.org/v3","metadata":{"name":"firstboot","uid":"0d07652c-d814-4af6-8719-cdec0ad5e354","creationTimestamp":"2026-11-24T10:39:22Z","annotations":{"org.projectcalico.label.network.ID":"abc"}},"spec":{"cidr":"10.213.0.0/16","vxlanMode":"Never","ipipMode":"Never","natOutgoing":true,"blockSize":26,"nodeSelector":"all()","allowedUses":["Workload","Tunnel"]}}`
	strippedValue = `{"kind":"IPPool","apiVersion":"projectcalico.org/v3","metadata":{"name":"firstboot","uid":"1"},"spec":{"cidr":"10.213.0.0/16","ipipMode":"Never","natOutgoing":true,"blockSize":26,"nodeSelector":"all()"}}`
	nodeValue     = `{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{"name":"host1","uid":"c1feeaf9-4dff-4ddf-bcc5-a488f06d7522","creationTimestamp":"2026-11-24T10:39:22Z","labels":{"rack":"a"}},"spec":{"bgp":{"asNumber":64512,"ipv4Address":"10.0.0.1/24"},"orchRefs":[{"nodeName":"host1","orchestrator":"libnetwork"}]},"status":{}}`
	allowValue    = `{"kind":"Profile","apiVersion":"projectcalico.org/v3","metadata":{"name":"firstboot"},"spec":{"ingress":[{"action":"Allow","source":{},"destination":{}}],"egress":[{"action":"Allow","source":{},"destination":{}}]}}`
	pluginValue   = `{"kind":"Profile","apiVersion":"projectcalico.org/v3","metadata":{"name":"plugin"},"spec":{"ingress":[{"action":"Allow","source":{"selector":"has(plugin)"},"destination":{}}],"egress":[{"action":"Allow","source":{},"destination":{}}],"labelsToApply":{"plugin":""}}}`
	infoValue     = `{"kind":"ClusterInformation","apiVersion":"projectcalico.org/v3","metadata":{"name":"default","uid":"2600d873"},"spec":{"clusterGUID":"ac2f606cd93b4cea8cd0cb2dddf56a31","calicoVersion":"v3.23.0","datastoreReady":true}}`
)

var comparePrefixes = cmpopts.EquateComparable(netip.Prefix{})

func TestDecodePool(t *testing.T) {
	got, err := decodePool([]byte(poolValue))
	want := IPPool{
		Name: "firstboot", UID: "0d07652c-d814-4af6-8719-cdec0ad5e354", CIDR: "10.213.0.0/16", BlockSize: 26,
		Annotations: map[string]string{NetworkIDAnnotation: "abc"}, NATOutgoing: true,
		IPIPMode: "Never", VXLANMode: "Never", HasVXLANMode: true, NodeSelector: "all()",
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("error %v, differs:\n%s", err, diff)
	}
	if got.NetworkID() != "abc" {
		t.Errorf("NetworkID = %q, want abc", got.NetworkID())
	}
	stripped, err := decodePool([]byte(strippedValue))
	if err != nil || stripped.HasVXLANMode || stripped.VXLANMode != "" || stripped.NetworkID() != "" {
		t.Errorf("stripped pool is %+v, %v", stripped, err)
	}
}

func TestDecodeNode(t *testing.T) {
	got, err := decodeNode([]byte(nodeValue))
	want := Node{
		Name: "host1", Labels: map[string]string{"rack": "a"}, ASNumber: 64512,
		Address: netip.MustParsePrefix("10.0.0.1/24"), OrchRefs: []OrchRef{{"host1", "libnetwork"}},
	}
	if diff := cmp.Diff(want, got, comparePrefixes); err != nil || diff != "" {
		t.Errorf("error %v, differs:\n%s", err, diff)
	}
	for spec, want := range map[string]Node{
		`{}`:                                    {},
		`null`:                                  {},
		`{"bgp":{"ipv4Address":"10.0.0.2"}}`:    {Address: netip.MustParsePrefix("10.0.0.2/32")},
		`{"bgp":{"asNumber":"64512"}}`:          {ASNumber: 64512},
		`{"bgp":{"asNumber":"1.10"}}`:           {ASNumber: 65546},
		`{"bgp":{"asNumber":null}}`:             {},
		`{"bgp":{"ipv4Address":"10.0.0.2/24"}}`: {Address: netip.MustParsePrefix("10.0.0.2/24")},
	} {
		want.Name, want.Labels = "h", map[string]string{}
		got, err := decodeNode([]byte(`{"kind":"Node","metadata":{"name":"h"},"spec":` + spec + `}`))
		if diff := cmp.Diff(want, got, comparePrefixes); err != nil || diff != "" {
			t.Errorf("%s: error %v, differs:\n%s", spec, err, diff)
		}
	}
	for _, spec := range []string{
		`{"bgp":{"ipv4Address":"here"}}`, `{"bgp":{"ipv4Address":"fe80::1/64"}}`, `{"bgp":{"asNumber":-1}}`,
		`{"bgp":{"asNumber":"1.70000"}}`, `{"bgp":{"asNumber":4294967296}}`, `{"bgp":7}`, `[]`,
	} {
		if n, err := decodeNode([]byte(`{"kind":"Node","metadata":{"name":"h"},"spec":` + spec + `}`)); err == nil {
			t.Errorf("%s: %+v, want an error", spec, n)
		}
	}
}

func TestDecodeClusterInfo(t *testing.T) {
	got, err := decodeClusterInfo([]byte(infoValue))
	want := ClusterInfo{CalicoVersion: "v3.23.0", GUID: "ac2f606cd93b4cea8cd0cb2dddf56a31", Ready: true}
	if err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
}

func TestProfileAllowsAll(t *testing.T) {
	for value, want := range map[string]bool{allowValue: true, pluginValue: false} {
		if p, err := decodeProfile([]byte(value)); err != nil || p.AllowsAll != want {
			t.Errorf("%s: AllowsAll %v, %v; want %v", p.Name, p.AllowsAll, err, want)
		}
	}
	const allow = `{"action":"Allow","source":{},"destination":{}}`
	for rules, want := range map[string]bool{
		`[]`:                               false,
		`null`:                             false,
		`[` + allow + `]`:                  true,
		`[{"action":"Log"},` + allow + `]`: true,
		`[{"action":"Allow","protocol":"TCP"},` + allow + `]`:             true,
		`[{"action":"Deny","protocol":"TCP"},` + allow + `]`:              false,
		`[{"action":"Pass"},` + allow + `]`:                               false,
		`[{"action":"Allow","protocol":"TCP"}]`:                           false,
		`[{"action":"Allow","source":{"nets":["10.0.0.0/8"]}}]`:           false,
		`[{"action":"Allow","metadata":{"annotations":{"a":"b"}}}]`:       true,
		`[{"action":"Allow","ipVersion":4}]`:                              false,
		`[{"source":{}},` + allow + `]`:                                   false,
		`[{"action":"Allow","someday":"a condition of a later version"}]`: false,
	} {
		for _, spec := range []string{`{"ingress":` + rules + `,"egress":[` + allow + `]}`, `{"egress":` + rules + `,"ingress":[` + allow + `]}`} {
			p, err := decodeProfile([]byte(`{"kind":"Profile","metadata":{"name":"p"},"spec":` + spec + `}`))
			if err != nil || p.AllowsAll != want {
				t.Errorf("%s: AllowsAll %v, %v; want %v", spec, p.AllowsAll, err, want)
			}
		}
	}
}

func TestInvalidValuesAreRejected(t *testing.T) {
	for what, value := range map[string]string{
		"empty":          ``,
		"not JSON":       `{`,
		"a list":         `[]`,
		"another kind":   nodeValue,
		"no name":        `{"kind":"IPPool","metadata":{},"spec":{}}`,
		"an escape code": `{"kind":"IPPool","metadata":{"name":"\u001b[2J"},"spec":{}}`,
		"a path":         `{"kind":"IPPool","metadata":{"name":"a/b"},"spec":{}}`,
		"a long name":    `{"kind":"IPPool","metadata":{"name":"` + strings.Repeat("a", 254) + `"},"spec":{}}`,
		"a wrong type":   `{"kind":"IPPool","metadata":{"name":"p"},"spec":{"blockSize":"26"}}`,
		"too many bytes": `{"kind":"IPPool","metadata":{"name":"p"},"spec":{"cidr":"` + strings.Repeat("1", maxValue) + `"}}`,
	} {
		if p, err := decodePool([]byte(value)); err == nil {
			t.Errorf("%s was decoded as %+v", what, p)
		} else if strings.ContainsFunc(err.Error(), unicode.IsControl) {
			t.Errorf("%s: %q has control characters", what, err)
		}
	}
}

// FuzzDecode: no value makes a decoder panic, and decoded texts contain no
// control characters.
func FuzzDecode(f *testing.F) {
	for _, v := range []string{poolValue, strippedValue, nodeValue, allowValue, pluginValue, infoValue, `{"owner":"host1","since":"2026-01-01T00:00:00Z"}`} {
		f.Add([]byte(v))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		pool, _ := decodePool(value)
		node, _ := decodeNode(value)
		profile, _ := decodeProfile(value)
		info, _ := decodeClusterInfo(value)
		record, _ := decodeRecord(value)
		for _, v := range []any{pool, node, profile, info, record, decodeOwner(value)} {
			data, err := json.Marshal(v)
			if err != nil {
				continue // a time that JSON cannot represent
			}
			var back any
			if err := json.Unmarshal(data, &back); err != nil {
				t.Fatal(err)
			}
			noControl(t, back)
		}
	})
}

func noControl(t *testing.T, v any) {
	switch v := v.(type) {
	case string:
		if strings.ContainsFunc(v, unicode.IsControl) {
			t.Errorf("%q has control characters", v)
		}
	case map[string]any:
		for key, value := range v {
			noControl(t, key)
			noControl(t, value)
		}
	case []any:
		for _, value := range v {
			noControl(t, value)
		}
	}
}
