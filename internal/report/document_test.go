package report_test

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/report"
	"github.com/projecteru2/firstboot/internal/state"
)

func TestEveryDocumentHasASchemaNumber(t *testing.T) {
	for want, v := range map[string]any{
		`{"schema":1}`:       struct{}{},
		`{"schema":1,"a":2}`: map[string]int{"a": 2},
	} {
		got, err := report.CompactDocument(v)
		if err != nil || string(got) != want {
			t.Errorf("%s, %v, want %s", got, err, want)
		}
		indented, err := report.Document(v)
		if err != nil || !strings.HasPrefix(string(indented), "{\n  \"schema\": 1") || !strings.HasSuffix(string(indented), "\n}\n") || !json.Valid(indented) {
			t.Errorf("%s, %v", indented, err)
		}
	}
	for _, v := range []any{nil, []int{1}, "text", map[string]any{"f": func() {}}} {
		if got, err := report.Document(v); err == nil {
			t.Errorf("%v became the document %s", v, got)
		}
	}
}

// time.Duration.Seconds returns 7.6690000000000005 for 7.669 s.
func TestSecondsHaveAtMostThreeDecimals(t *testing.T) {
	for range 10000 {
		d := time.Duration(rand.Int64N(int64(48 * time.Hour)))
		data, err := json.Marshal(report.Seconds(d))
		if err != nil {
			t.Fatal(err)
		}
		if _, decimals, _ := strings.Cut(string(data), "."); len(decimals) > 3 {
			t.Errorf("%d ns became %s", d, data)
		}
	}
	if got := report.Seconds(7*time.Second + 669*time.Millisecond + 400*time.Microsecond); got != 7.669 {
		t.Errorf("got %v", got)
	}
}

// TestCommandsInJSONAreCommandLines verifies that a program can execute what
// the key "type" lists.
func TestCommandsInJSONAreCommandLines(t *testing.T) {
	states := []state.State{state.Complete, state.Running, state.Refused, state.Failed, state.NotStarted, state.Drifted, state.Foreign, state.Unknown}
	commands := 0
	for _, st := range states {
		for _, facts := range []report.Facts{{}, {Invalid: true}, {Disabled: true}, {Root: "/mnt/image"}, {Root: "/mnt/image", Disabled: true}, {Root: "/mnt/image", Invalid: true}} {
			data, err := json.Marshal(report.Advise(st, facts))
			if err != nil {
				t.Fatal(err)
			}
			var advice struct{ Type []string }
			if err := json.Unmarshal(data, &advice); err != nil {
				t.Fatalf("%s: %v", data, err)
			}
			for _, line := range advice.Type {
				commands++
				if strings.ContainsAny(line, "()") || strings.Contains(line, "  ") {
					t.Errorf("%s: %q is not only a command", st, line)
				}
				if facts.Root != "" && (!strings.HasPrefix(line, "firstboot ") || !strings.HasSuffix(line, " --root /mnt/image")) {
					t.Errorf("%s: %q does not work on the root directory", st, line)
				}
			}
		}
	}
	if commands < 20 {
		t.Errorf("only %d commands", commands)
	}
}
