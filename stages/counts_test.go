package stages_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/test/etcdtest"
)

// counts are what a run does that takes time on a slow machine.
type counts struct {
	mu     sync.Mutex
	root   string
	writes map[string]int // synced writes by the path of the file
}

// op counts a file operation. A file is written by renaming a temporary file, and
// /run is in memory.
func (c *counts) op(op host.FileOp) {
	c.mu.Lock()
	defer c.mu.Unlock()
	to := strings.TrimPrefix(op.To, c.root)
	at := strings.TrimPrefix(op.Path, c.root)
	switch {
	case strings.HasPrefix(at, "/run"), strings.HasPrefix(to, "/run"):
	case op.Kind == host.OpRename && strings.HasPrefix(filepath.Base(at), "."):
		c.writes[to]++
	}
}

// countedRun runs firstboot on the machine and counts what it does.
func (m *machine) countedRun() *counts {
	m.t.Helper()
	c := &counts{root: m.root, writes: map[string]int{}}
	ctx, cancel := contextWithin(m.t, 20*time.Second)
	defer cancel()
	o := append(systemOptions(m.t, m.root, func(string, string) {}), host.WithFileOps(c.op))
	if code := runAllStages(ctx, m.root, false, os.Stderr, o...); code != app.ExitDone {
		m.t.Fatalf("the run ended with %d", code)
	}
	return c
}

// maxStateWrites bounds the synced writes of the journal and the manifest in a run.
const maxStateWrites = 8

// TestRunWritesFewSyncedFiles: a slow disk takes 20 to 190 ms for each.
func TestRunWritesFewSyncedFiles(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	for name, prepare := range map[string]func(*machine){"global": func(*machine) {}, "local": toToday} {
		t.Run(name, func(t *testing.T) {
			m := newHost(t, newCluster(t, etcd.Endpoint), "host1")
			prepare(m)
			c := m.countedRun()
			if n := c.writes[state.JournalPath] + c.writes[state.ManifestPath]; n == 0 || n > maxStateWrites {
				t.Errorf("%d writes of the journal and %d of the manifest, want at most %d together", c.writes[state.JournalPath], c.writes[state.ManifestPath], maxStateWrites)
			}
			delete(c.writes, state.JournalPath)
			delete(c.writes, state.ManifestPath)
			for path, n := range c.writes {
				if n != 1 {
					t.Errorf("%s was written %d times", path, n)
				}
			}
			if len(c.writes) < 10 || c.writes[state.MarkerPath] != 1 {
				t.Errorf("counted only the writes %v", c.writes)
			}
		})
	}
}
