//go:build !integration

package stages_test

// everyStep makes the crash matrix complete. Without it, it tries one step in
// stride.
const (
	everyStep = false
	stride    = 7
)
