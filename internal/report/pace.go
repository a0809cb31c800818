package report

import "time"

// pace thins out what would be said again and again: at once, after 10 s,
// after 30 s, then each minute.
type pace struct {
	began time.Time
	said  int
}

// due is how long after the beginning the nth line may come, n from 0.
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

// ready tells whether a line is due now, and counts it as said together with
// those that were missed.
func (p *pace) ready(now time.Time) bool {
	elapsed := now.Sub(p.began)
	if elapsed < due(p.said) {
		return false
	}
	for due(p.said) <= elapsed {
		p.said++
	}
	return true
}
