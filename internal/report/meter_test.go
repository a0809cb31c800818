package report

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestMeterPrintsEveryTenthOnceAndRedrawsOnATerminal(t *testing.T) {
	for live, want := range map[bool]string{
		false: "firstboot: writing, 0 MiB of 100 (0%), 0.0s\nfirstboot: writing, 10 MiB of 100 (10%), 10.0s\nfirstboot: waiting[2J\n" +
			"firstboot: writing, 20 MiB of 100 (20%), 20.0s\nfirstboot: reading back, 1 MiB, 0.0s\n",
		true: "firstboot: writing, 0 MiB of 100 (0%), 0.0s",
	} {
		var out bytes.Buffer
		now := time.Unix(0, 0)
		m := NewMeter(&out, Terminal{Live: live}, func() time.Time { return now })
		for i := range int64(21) {
			m.Progress("writing", i<<20, 100<<20)
			if i == 15 {
				m.Printf("waiting\x1b[2J")
			}
			now = now.Add(time.Second)
		}
		m.Progress("reading back", 1<<20, 0)
		m.Close()
		got := out.String()
		if !live && got != want || live && (!strings.HasPrefix(got, want) || strings.Count(got, "\r\x1b[K") != 22 || strings.Count(got, "\n") != 1) {
			t.Errorf("live %v:\n%q", live, got)
		}
	}
}
