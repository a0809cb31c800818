//go:build lab

package nspawn

import (
	"testing"
)

// TestUnits boots machines and looks at what firstboot's units do among the
// real ones. They share a root file system and a network, so they come one
// after another; each is a boot of about a second.
func TestUnits(t *testing.T) {
	s, err := Open(t.Context(), t.TempDir(), t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, story := range []struct {
		name string
		tell func(*testing.T, *Site)
	}{
		{"a run that waits for etcd", aRunThatWaits},
		{"an invalid configuration", anInvalidConfiguration},
		{"a refused run", aRefusedRun},
		{"a configuration by credential", aCredential},
		{"a preset pass", aPresetPass},
		{"a complete host", aCompleteHost},
		{"another machine", anotherMachine},
		{"Docker and the plugin", dockerAndThePlugin},
	} {
		t.Run(story.name, func(t *testing.T) { story.tell(t, s) })
	}
}
