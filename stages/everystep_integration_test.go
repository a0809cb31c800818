//go:build integration

package stages_test

const (
	everyStep = true
	stride    = 1
)
