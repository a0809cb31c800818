package procs

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// killTimeout limits the wait for the end of killed processes.
const killTimeout = 10 * time.Second

// record appends the line "PID STARTED NAME". The start time is needed because
// PIDs are reused.
func record(path string, p *Process) error {
	started, err := startTime(p.PID)
	if err != nil {
		return nil //nolint:nilerr // it has ended already
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("cannot record process %d (%s): %w", p.PID, p.Name, err)
	}
	_, err = fmt.Fprintf(f, "%d %s %s\n", p.PID, started, p.Name)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("cannot record process %d (%s): %w", p.PID, p.Name, err)
	}
	return nil
}

// startTime returns the boot ID of the machine and the clock ticks between the
// boot and the start of the process (proc(5), field 22 of stat).
func startTime(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	// The command name, in parentheses, can contain any character.
	after := stat[strings.LastIndexByte(string(stat), ')')+1:]
	fields := strings.Fields(string(after))
	const state, started = 0, 19 // fields 3 and 22, counted from the state
	if len(fields) <= started || fields[state] == "Z" {
		return "", os.ErrProcessDone
	}
	return strings.TrimSpace(string(boot)) + "/" + fields[started], nil
}

// Alive returns the recorded processes of the group in dir that are running, as
// "name (pid)".
func Alive(dir string) ([]string, error) {
	var list []string
	err := each(dir, func(pid int, name string) {
		list = append(list, fmt.Sprintf("%s (%d)", name, pid))
	})
	return list, err
}

// KillRecorded kills the recorded processes of the group in dir that are still
// running, and waits until they have ended.
func KillRecorded(dir string) error {
	err := each(dir, func(pid int, _ string) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	})
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(killTimeout); ; time.Sleep(20 * time.Millisecond) {
		left, err := Alive(dir)
		switch {
		case err != nil:
			return err
		case len(left) == 0:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("cannot kill %s: still running after %s", strings.Join(left, ", "), killTimeout)
		}
	}
}

func each(dir string, fn func(pid int, name string)) error {
	f, err := os.Open(filepath.Join(dir, recordName))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read the record of processes: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.SplitN(lines.Text(), " ", 3)
		if len(fields) != 3 {
			continue // a line that is incomplete because of a power cut
		}
		pid, err := strconv.Atoi(fields[0])
		if err != nil || pid <= 1 {
			continue
		}
		if started, err := startTime(pid); err == nil && started == fields[1] {
			fn(pid, fields[2])
		}
	}
	return lines.Err()
}
