package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/projecteru2/firstboot/test/lab/cache"
)

// consoleLines is the number of console lines that are shown after a failure.
const consoleLines = 40

// diagnosticCommands are run on each host after a failure. Their output is
// written to the files.
var diagnosticCommands = []struct{ file, command string }{
	{"firstboot.txt", "journalctl --no-pager -o short-precise -u firstboot"},
	{"status.txt", "timeout 60 firstboot status"},
	{"journal.txt", "journalctl --no-pager -o short-precise -b"},
	{"boot.txt", "systemd-analyze; systemd-analyze blame; systemctl --no-pager --failed; systemctl --no-pager list-jobs"},
	{"docker.txt", "timeout 30 docker ps -a; timeout 30 docker network ls; timeout 30 docker logs --tail 200 calico-node"},
	{"network.txt", "ip addr; ip route; ip neigh; iptables-save | head -n 400"},
	{"state.txt", "cat /var/lib/firstboot/journal.json; echo; cat /var/lib/firstboot/complete.json; echo; cat /etc/docker/daemon.json"},
}

// Diagnostics writes the logs and the state of all hosts to a directory in the
// cache, which is not removed. It returns the directory, and a text with the end
// of each console and firstboot's journal.
func (l *Lab) Diagnostics(ctx context.Context, name string) (dir, text string) {
	dir = filepath.Join(cache.Open(nil).Dir, "failures", fmt.Sprintf("%s-%s", time.Now().UTC().Format("20060102-150405"), name))
	texts := make([]string, len(l.Hosts))
	var all sync.WaitGroup
	for i, h := range l.Hosts {
		all.Go(func() { texts[i] = h.diagnostics(ctx, filepath.Join(dir, h.Name)) })
	}
	all.Wait()
	if l.Etcd != nil {
		if log, err := os.ReadFile(l.Etcd.Log); err == nil {
			_ = os.WriteFile(filepath.Join(dir, "etcd.log"), log, 0o644)
		}
	}
	return dir, strings.Join(texts, "")
}

func (h *Host) diagnostics(ctx context.Context, dir string) string {
	var text strings.Builder
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Sprintf("cannot write the logs of %s: %v\n", h.Name, err)
	}
	console := h.Console.Text()
	_ = os.WriteFile(filepath.Join(dir, "console.txt"), []byte(console), 0o644) // best effort: its end is part of the text
	fmt.Fprintf(&text, "--- %s: end of the console\n%s\n", h.Name, h.Console.Tail(consoleLines))
	for i, d := range diagnosticCommands {
		ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
		r, err := h.Run(ctx, d.command)
		cancel()
		if err != nil {
			fmt.Fprintf(&text, "--- %s: cannot run diagnostic commands: %v\n", h.Name, err)
			break
		}
		_ = os.WriteFile(filepath.Join(dir, d.file), []byte(r.Stdout+r.Stderr), 0o644)
		if i == 0 {
			fmt.Fprintf(&text, "--- %s: journalctl -u firstboot\n%s%s\n", h.Name, r.Stdout, r.Stderr)
		}
	}
	return text.String()
}
