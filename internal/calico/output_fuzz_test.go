package calico

import (
	"strings"
	"testing"
	"unicode"

	"github.com/projecteru2/firstboot/internal/text"
)

func wantPrintable(t *testing.T, s string) {
	t.Helper()
	if len(s) > text.MaxLine+len("…") || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("%q is not fit for a message", s)
	}
}

func FuzzCalicoctlVersion(f *testing.F) {
	for _, s := range []string{"", "Client Version:    v3.23.0\nGit commit: 9ee\n", "Client Version:\n", "x\nClient Version: \x1b[2J\n", "Client Version: " + strings.Repeat("9", 1000)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, output []byte) { wantPrintable(t, clientVersionIn(output)) })
}

func FuzzPeers(f *testing.F) {
	for _, s := range []string{
		"", "BIRD 1.6.8 ready.\nMesh_10_0_0_2 BGP master up 10:00:05 Established\n", "Mesh_ BGP a b c\n", "Node_x BGP master start 10:00:05 Active \x1b[31m\n",
		"Global_1_2_3_4 BGP master", "Mesh_" + strings.Repeat("_", 1000) + " BGP a b c d\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, output string) {
		for _, p := range parsePeers(output) {
			wantPrintable(t, p.Address)
			wantPrintable(t, p.State)
		}
		wantPrintable(t, lastLine([]byte(output)))
	})
}

func TestLastLine(t *testing.T) {
	for in, want := range map[string]string{"": "", "one": "one", "a\nb\r\n\n": "b", "calico/node is not ready: felix\n": "calico/node is not ready: felix"} {
		if got := lastLine([]byte(in)); got != want {
			t.Errorf("%q gives %q, want %q", in, got, want)
		}
	}
}

func FuzzBIRDReply(f *testing.F) {
	for _, s := range []string{
		"", "0001 BIRD 1.6.8 ready.\n0000 \n", "0013 Daemon is up and running\n", "1000-BIRD\n1011-Router\n time\n0013 up\n", "9001 syntax \x1b[31merror\n",
		"2002-name\n" + strings.Repeat(" x\n", 1000), "0013", "00 ", "1000\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, input string) {
		reply, err := readReply(strings.NewReader(input))
		if err != nil && (reply != "" || strings.ContainsFunc(err.Error(), unicode.IsControl)) {
			t.Errorf("%q, %v", reply, err)
		}
		if len(reply) > len(input)+1 {
			t.Errorf("the reply has %d bytes, the input %d", len(reply), len(input))
		}
	})
}
