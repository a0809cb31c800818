package golden

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// maxSaid is how much of a failed command's output an error shows, in bytes.
const maxSaid = 4 << 10

// run runs a command of this machine; what it says is shown only if it fails.
// It dies with this process.
func run(ctx context.Context, name string, args ...string) error {
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		text := strings.TrimSpace(said.String())
		text = text[max(0, len(text)-maxSaid):]
		return fmt.Errorf("%s failed: %w\n%s", strings.Join(append([]string{name}, args...), " "), err, text)
	}
	return nil
}

// put writes a file of an image, and the folders above it.
func put(root string, f File) error {
	path := filepath.Join(root, f.Path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	mode := f.Mode
	if mode == 0 {
		mode = 0o644
	}
	if err := os.WriteFile(path, f.Data, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode) // whatever the umask is
}
