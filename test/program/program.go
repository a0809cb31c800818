// Package program builds firstboot from this checkout for tests that run it.
package program

import (
	"context"
	"fmt"
	"os"
	"os/exec"
)

// Build builds the static binary at path. The working directory must be in the
// module. If the size or the version matters, use `make build` instead.
func Build(ctx context.Context, path string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, "github.com/projecteru2/firstboot/cmd/firstboot")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build firstboot: %w\n%s", err, out)
	}
	return nil
}
