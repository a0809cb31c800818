//go:build lab

package nspawn

import (
	"testing"
)

// TestUnits tests firstboot's units together with the real units of a host. The
// machines share a root file system and a network, so the tests run one after
// another. A boot takes about a second.
func TestUnits(t *testing.T) {
	e, err := Open(t.Context(), t.TempDir(), t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, test := range []struct {
		name string
		run  func(*testing.T, *Environment)
	}{
		{"a run that waits for etcd", testWaitingRun},
		{"an invalid configuration", testInvalidConfiguration},
		{"a refused run", testRefusedRun},
		{"a report", testReport},
		{"a report of an earlier boot", testLeftReport},
		{"a configuration by credential", testCredential},
		{"a preset pass", testPresetPass},
		{"a complete host", testCompleteHost},
		{"a clone of a complete host", testClone},
		{"Docker and the plugin", testDockerAndPlugin},
		{"a host with a local network", testAdapter},
		{"the tunnel to etcd", testTunnel},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, e) })
	}
}
