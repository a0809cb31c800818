package report

import (
	"fmt"
	"time"

	"github.com/dustin/go-humanize"
)

// Elapsed formats a duration for people: 0.4s, 12.3s, 2m5s, 3h2m.
func Elapsed(d time.Duration) string {
	switch {
	case d < 0:
		return "0.0s"
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour:
		d = d.Round(time.Second)
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	d = d.Round(time.Minute)
	return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
}

// wholeSeconds formats the duration of a wait, in whole seconds.
func wholeSeconds(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%ds", max(0, int(d.Round(time.Second).Seconds())))
	}
	return Elapsed(d)
}

// timeOfDay formats when a wait of this boot began. clock formats any other time.
func timeOfDay(t time.Time) string { return t.UTC().Format("15:04:05 UTC") }

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// Bytes formats a size for people, in powers of ten: 43 MB.
func Bytes(n int64) string { return humanize.Bytes(uint64(max(0, n))) } //nolint:gosec // not negative

// Seconds returns a duration for JSON, with at most three decimals. The sum of
// whole seconds and a fraction, as time.Duration computes it, may have more.
func Seconds(d time.Duration) float64 {
	return float64(d.Round(time.Millisecond).Milliseconds()) / 1000
}
