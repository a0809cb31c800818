package report

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestMeterPrintsEveryTenthOnceAndRedrawsOnATerminal(t *testing.T) {
	for live, want := range map[bool]string{
		false: "firstboot: writing, 0 B of 100 MB (0 %), 0.0s\nfirstboot: writing, 10 MB of 100 MB (10 %), 10.0s\nfirstboot: waiting?[2J\n" +
			"firstboot: writing, 20 MB of 100 MB (20 %), 20.0s\nfirstboot: reading back, 1.0 MB, 0.0s\n",
		true: "firstboot: writing, 0 B of 100 MB (0 %), 0.0s",
	} {
		var out bytes.Buffer
		now := time.Unix(0, 0)
		m := NewMeter(&out, Terminal{Live: live}, func() time.Time { return now })
		for i := range int64(21) {
			m.Progress("writing", i*1e6, 100e6)
			if i == 15 {
				m.Printf("waiting\x1b[2J")
			}
			now = now.Add(time.Second)
		}
		m.Progress("reading back", 1e6, 0)
		m.Close()
		got := out.String()
		if !live && got != want || live && (!strings.HasPrefix(got, want) || strings.Count(got, "\r\x1b[K") != 22 || strings.Count(got, "\n") != 1) {
			t.Errorf("live %v:\n%q", live, got)
		}
	}
}
