package state_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
)

// TestNewerReportIsNeverRemoved: a run writes its report at any instant of the
// removal of the last one.
func TestNewerReportIsNeverRemoved(t *testing.T) {
	removals := map[string]struct {
		before func(t *testing.T, h *host.Host) state.Report
		remove func(h *host.Host, before state.Report) error
	}{
		"delivered": {
			func(t *testing.T, h *host.Host) state.Report {
				r := state.Report{Written: time.Unix(1, 0).UTC(), Status: json.RawMessage(`{}`)}
				if err := r.Save(h); err != nil {
					t.Fatal(err)
				}
				return r
			},
			func(h *host.Host, before state.Report) error {
				_, err := state.RemoveReport(h, before)
				return err
			},
		},
		"damaged": {
			func(t *testing.T, h *host.Host) state.Report {
				writeFile(t, h, state.ReportPath, "{")
				return state.Report{}
			},
			func(h *host.Host, _ state.Report) error { return state.RemoveDamagedReport(h) },
		},
	}
	for name, removal := range removals {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			before := removal.before(t, host.New(root))
			saved := make(chan error, 1)
			h := host.New(root, host.WithStep(func(op, target string) {
				if op != "remove" {
					return
				}
				go func() {
					newer := state.Report{Written: time.Unix(2, 0).UTC(), Status: json.RawMessage(`{}`)}
					saved <- newer.Save(host.New(root))
				}()
				select {
				case err := <-saved: // nothing prevents it now
					saved <- err
				case <-time.After(100 * time.Millisecond): // it waits for the removal
				}
			}))
			if err := removal.remove(h, before); err != nil {
				t.Fatal(err)
			}
			if err := <-saved; err != nil {
				t.Fatal(err)
			}
			now, found, err := state.LoadReport(h)
			if err != nil || !found || now.Written.Unix() != 2 {
				t.Errorf("%+v, %v, %v", now, found, err)
			}
			if removed, err := state.RemoveReport(h, before); err != nil || removed {
				t.Errorf("the newer report was removed: %v", err)
			}
		})
	}
}
