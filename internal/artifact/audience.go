package artifact

import (
	"sync"
	"time"
)

// audience is who wants to know how far the fetch of which artifact is:
// several callers may wait for one fetch.
type audience struct {
	mu      sync.Mutex
	next    int
	members map[string]map[int]Progress
}

// join adds a listener; the function that it returns takes it away again.
func (a *audience) join(key string, p Progress) (leave func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.members == nil {
		a.members = map[string]map[int]Progress{}
	}
	if a.members[key] == nil {
		a.members[key] = map[int]Progress{}
	}
	id := a.next
	a.next++
	a.members[key][id] = p
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.members[key], id)
		if len(a.members[key]) == 0 {
			delete(a.members, key)
		}
	}
}

// tell calls every listener. The lock is held meanwhile, so that none is
// called after it left.
func (a *audience) tell(key string, done, total int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.members[key] {
		p(done, total)
	}
}

// tellEvery is the least time between two reports of a fetch's progress.
const tellEvery = 200 * time.Millisecond

// teller reports the progress of one fetch, not too often.
type teller struct {
	tell func(done, total int64)
	last time.Time
}

func (t *teller) say(done, total int64, always bool) {
	if now := time.Now(); always || now.Sub(t.last) >= tellEvery {
		t.last = now
		t.tell(done, total)
	}
}
