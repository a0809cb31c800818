package artifact

import (
	"sync"
	"time"
)

// progressListeners are the progress functions of all Gets by cache key.
// Several Gets may share one fetch.
type progressListeners struct {
	mu     sync.Mutex
	nextID int
	byKey  map[string]map[int]Progress
}

// add adds a listener and returns the function that removes it.
func (l *progressListeners) add(key string, p Progress) (remove func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byKey == nil {
		l.byKey = map[string]map[int]Progress{}
	}
	if l.byKey[key] == nil {
		l.byKey[key] = map[int]Progress{}
	}
	id := l.nextID
	l.nextID++
	l.byKey[key][id] = p
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.byKey[key], id)
		if len(l.byKey[key]) == 0 {
			delete(l.byKey, key)
		}
	}
}

// notify calls the listeners of a key. It holds the lock, so that no listener
// is called after its removal.
func (l *progressListeners) notify(key string, done, total int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.byKey[key] {
		p(done, total)
	}
}

// reportInterval is the shortest time between two progress reports of a fetch.
const reportInterval = 200 * time.Millisecond

// progressReporter limits how often the progress of one fetch is reported.
type progressReporter struct {
	notify Progress
	last   time.Time
}

// update reports the progress, unless the last report was less than
// reportInterval ago.
func (r *progressReporter) update(done, total int64) {
	if time.Since(r.last) >= reportInterval {
		r.report(done, total)
	}
}

// report reports the progress.
func (r *progressReporter) report(done, total int64) {
	r.last = time.Now()
	r.notify(done, total)
}
