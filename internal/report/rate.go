package report

import "time"

// decliningRate limits repeated lines: the first at once, the next after 10 s
// and 30 s, then one each minute.
type decliningRate struct {
	start   time.Time
	printed int
}

// due is how long after the start the nth line may be printed, n from 0.
func due(n int) time.Duration {
	switch n {
	case 0:
		return 0
	case 1:
		return 10 * time.Second
	case 2:
		return 30 * time.Second
	}
	return time.Duration(n-2) * time.Minute
}

// allows reports whether a line is due now. If so, it counts that line, and
// those that were missed, as printed.
func (r *decliningRate) allows(now time.Time) bool {
	elapsed := now.Sub(r.start)
	if elapsed < due(r.printed) {
		return false
	}
	for due(r.printed) <= elapsed {
		r.printed++
	}
	return true
}
