package stages

import "testing"

// TestReloadClearsOnlyUnitsThatWereWrittenBefore: one stage may write a unit while the
// reload of another stage is running, which then has read the earlier files.
func TestReloadClearsOnlyUnitsThatWereWrittenBefore(t *testing.T) {
	e := &Env{}
	write := func(name string) {
		_ = e.changeUnits(func() error { return nil })
		e.changes.noteStale(name)
	}
	write("before.service")
	write("again.service")
	began := e.changes.beginReload()
	write("during.service")
	write("again.service")
	e.changes.endReload(began)
	for name, want := range map[string]bool{"before.service": false, "during.service": true, "again.service": true} {
		if e.changes.isStale(name) != want {
			t.Errorf("%s is stale: %t", name, !want)
		}
	}
	if settled, _ := e.changes.settled(); settled {
		t.Error("the changes during the reload count as read")
	}
	e.changes.endReload(e.changes.beginReload())
	if settled, _ := e.changes.settled(); !settled || e.changes.isStale("during.service") || e.changes.isStale("again.service") {
		t.Error("the next reload has read them")
	}
}
