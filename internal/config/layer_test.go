package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/projecteru2/firstboot/internal/secret"
)

// anyLayer draws a source that sets a few keys. There are only a few keys to
// choose from, so sources overlap.
func anyLayer(name string) *rapid.Generator[layer] {
	return rapid.Custom(func(t *rapid.T) layer {
		l := layer{}
		for i, path := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{
			"etcd.endpoints", "pool.name", "pool.blockSize", "sysctl.a.b", "sysctl.net.ipv4.ip_forward",
			"node.environment.A", "node.environment.B", "fleet.report", "timeouts.total", "pool.cidr",
		}), rapid.ID).Draw(t, name+" keys") {
			k, _, _ := findKey(path)
			l[path] = value{data: anyValue(k).Draw(t, path), at: position{source: name, line: i + 1, col: 1}}
		}
		return l
	})
}

// anyText draws text without control characters, often with YAML punctuation.
func anyText() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringMatching(`[a-z0-9.:/_-]{0,12}`),
		rapid.StringMatching(`[-?:,\[\]{}#&*!|>'"%@ \x60~=<\\a0é日]{0,10}`),
		rapid.SampledFrom([]string{"true", "null", "~", "1.0", "0x10", "yes", "<<", "---", "...", "a: b", "a #b", " a ", "\\u0041", "<&>", "😀"}),
	)
}

// anyValue draws a value of a key's type.
func anyValue(k key) *rapid.Generator[any] {
	switch k.field(new(Config)).(type) {
	case *[]string:
		return rapid.Custom(func(t *rapid.T) any { return rapid.SliceOfN(anyText(), 1, 3).Draw(t, "list") })
	case *map[string]secret.Value:
		return rapid.Custom(func(t *rapid.T) any { return secret.Value(anyText().Draw(t, "secret")) })
	case *secret.URL:
		return rapid.Custom(func(t *rapid.T) any { return secret.URL(anyText().Draw(t, "url")) })
	case *secret.Webhook:
		return rapid.Custom(func(t *rapid.T) any { return secret.Webhook(anyText().Draw(t, "url")) })
	case *bool:
		return rapid.Custom(func(t *rapid.T) any { return rapid.Bool().Draw(t, "bool") })
	case *int:
		return rapid.Custom(func(t *rapid.T) any { return rapid.IntRange(0, 1<<31-1).Draw(t, "int") })
	case *uint32:
		return rapid.Custom(func(t *rapid.T) any { return rapid.Uint32().Draw(t, "uint32") })
	case *time.Duration:
		return rapid.Custom(func(t *rapid.T) any { return time.Duration(rapid.Int64().Draw(t, "duration")) })
	case *netip.Prefix:
		return rapid.Custom(func(t *rapid.T) any {
			raw := rapid.Uint32().Draw(t, "address")
			ip := netip.AddrFrom4([4]byte{byte(raw >> 24), byte(raw >> 16), byte(raw >> 8), byte(raw)})
			return netip.PrefixFrom(ip, rapid.IntRange(0, 32).Draw(t, "bits"))
		})
	}
	return rapid.Custom(func(t *rapid.T) any { return anyText().Draw(t, "text") })
}

// TestMergeProperties: the last source that sets a key wins, with its origin. A
// key that no source sets has its default. Merging is associative.
func TestMergeProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := anyLayer("a").Draw(t, "a"), anyLayer("b").Draw(t, "b"), anyLayer("c").Draw(t, "c")
		all := merge(defaults(), a, b, c)
		if grouped := merge(merge(defaults(), a), merge(b, c)); !same(all, grouped) {
			t.Fatalf("grouping changes the result:\n%v\n%v", all, grouped)
		}
		origins, fallback := all.origins(), defaults()
		for path, got := range all {
			want, from := fallback[path], "default"
			for _, l := range []layer{a, b, c} {
				if v, ok := l[path]; ok {
					want, from = v, v.at.origin()
				}
			}
			if encode(got.data, reveal) != encode(want.data, reveal) || origins[path] != from {
				t.Fatalf("%s = %v from %s, want %v from %s", path, got.data, origins[path], want.data, from)
			}
		}
		for _, l := range []layer{a, b, c} {
			if !same(l, merge(l)) {
				t.Fatal("merging changed a source")
			}
		}
	})
}

func same(a, b layer) bool {
	if len(a) != len(b) {
		return false
	}
	for path, v := range a {
		w, ok := b[path]
		if !ok || encode(v.data, reveal) != encode(w.data, reveal) || v.at != w.at {
			return false
		}
	}
	return true
}

// TestConfigKeepsEveryValue: for every key of the schema, flatten returns the
// value that assign set.
func TestConfigKeepsEveryValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := layer{}
		for _, k := range schema() {
			path := k.path
			if k.isMap() {
				path = joinPath(path, "A.b-c")
			}
			l[path] = value{data: anyValue(k).Draw(t, path)}
		}
		got := map[string]string{}
		for _, s := range flatten(l.config()) {
			got[s.path] = encode(s.value, reveal)
		}
		for path, v := range l {
			if want := encode(v.data, reveal); got[path] != want {
				t.Fatalf("%s: %s, want %s", path, got[path], want)
			}
		}
		if len(got) != len(l) {
			t.Fatalf("%d values, want %d", len(got), len(l))
		}
	})
}

// TestDecodeAnyLayout writes random values in random YAML layouts. The decoder
// must return each value and its position.
func TestDecodeAnyLayout(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := map[string]written{}
		var text strings.Builder
		for _, section := range rapid.Permutation(childNames("")).Draw(t, "sections") {
			if section == "sysctl" {
				continue // its values are converted to text
			}
			writeSection(t, &text, section, want)
		}
		d := decode(Source{Name: "x", Data: []byte(text.String())})
		if len(d.problems) > 0 {
			t.Fatalf("%v\n%s", d.problems, text.String())
		}
		lines := strings.Split(text.String(), "\n")
		for path, v := range d.layer {
			if got := encode(v.data, reveal); got != want[path].value {
				t.Fatalf("%s = %s, want %s\n%s", path, got, want[path].value, text.String())
			}
			line := []rune(lines[v.at.line-1])
			if rest := string(line[v.at.col-1:]); !strings.HasPrefix(rest, want[path].as) {
				t.Fatalf("%s has the position %d:%d, where the text is %q\n%s", path, v.at.line, v.at.col, rest, text.String())
			}
		}
		if len(d.layer) != len(want) {
			t.Fatalf("%d values, want %d\n%s", len(d.layer), len(want), text.String())
		}
	})
}

// written is a value as JSON and as it is written in the YAML text.
type written struct{ value, as string }

// writeSection writes some keys of a section, as a block or flow mapping.
func writeSection(t *rapid.T, text *strings.Builder, section string, want map[string]written) {
	names := rapid.SliceOfDistinct(rapid.SampledFrom(childNames(section)), rapid.ID).Draw(t, section)
	names = slices.DeleteFunc(names, func(name string) bool { k, _, _ := findKey(joinPath(section, name)); return k.isMap() })
	flow := rapid.Bool().Draw(t, "flow")
	var parts []string
	for _, name := range names {
		k, _, _ := findKey(joinPath(section, name))
		value := encode(anyPlausible(k).Draw(t, k.path), reveal)
		want[k.path] = written{value, layOut(t, value, flow)}
		parts = append(parts, name+": "+want[k.path].as)
	}
	switch {
	case flow:
		fmt.Fprintf(text, "%s: {%s}\n", section, strings.Join(parts, ", "))
	case len(parts) == 0:
		fmt.Fprintf(text, "%s:\n", section)
	default:
		indent := strings.Repeat(" ", rapid.IntRange(1, 5).Draw(t, "indent"))
		fmt.Fprintf(text, "%s:  # é comment: \"x\"\n%s%s\n", section, indent, strings.Join(parts, "\n"+indent))
	}
}

// anyPlausible draws values that the decoder accepts and that are typical of
// configurations.
func anyPlausible(k key) *rapid.Generator[any] {
	plausible := rapid.SampledFrom([]string{"http://10.0.0.1:2379", "calico/node:v3.23.0", "é:日", "a b:c", "fe80::1", "x", "/a/b", "etcd://h:1,g:2", "a#b", "interface=eth0"})
	switch k.field(new(Config)).(type) {
	case *string:
		return rapid.Custom(func(t *rapid.T) any { return plausible.Draw(t, "text") })
	case *secret.URL:
		return rapid.Custom(func(t *rapid.T) any { return secret.URL(plausible.Draw(t, "url")) })
	case *secret.Webhook:
		return rapid.Custom(func(t *rapid.T) any { return secret.Webhook(plausible.Draw(t, "url")) })
	case *[]string:
		return rapid.Custom(func(t *rapid.T) any { return rapid.SliceOfN(plausible, 1, 3).Draw(t, "list") })
	}
	return anyValue(k)
}

// layOut writes JSON as handwritten YAML, often without quotes.
func layOut(t *rapid.T, value string, flow bool) string {
	bare := strings.ReplaceAll(value, `"`, "")
	switch {
	case strings.HasPrefix(value, "[") && strings.Contains(value, "h:1,"), flow && strings.Contains(bare, "h:1,"):
		return value
	case rapid.Bool().Draw(t, "quoted"):
		return value
	}
	return bare
}

// TestDefaultsAreComplete: every key has an origin even if no source names it.
func TestDefaultsAreComplete(t *testing.T) {
	l, err := loadText(t, minimal)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range schema() {
		if !k.isMap() && l.Origins[k.path] == "" {
			t.Errorf("%s has no origin", k.path)
		}
	}
	want := map[string]string{"net.ipv4.ip_forward": "1", "net.netfilter.nf_conntrack_max": "1000000"}
	if diff := cmp.Diff(want, l.Config.Sysctl); diff != "" {
		t.Errorf("sysctl defaults (-want +got):\n%s", diff)
	}
}
