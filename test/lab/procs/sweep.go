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

// sweepTime is how long Sweep waits for killed processes to be gone.
const sweepTime = 10 * time.Second

// A line of the record is "PID STARTED NAME": a number alone is no name of a
// process, as it is given anew after the process ended.
func record(path string, p *Process) error {
	started, err := startOf(p.PID)
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

// startOf is when a process started: the machine's boot ID and the clock ticks
// since, as /proc tells (proc(5), field 22 of stat).
func startOf(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	// The command's name, in brackets, may hold anything.
	after := stat[strings.LastIndexByte(string(stat), ')')+1:]
	fields := strings.Fields(string(after))
	const state, started = 0, 19 // fields 3 and 22, counted from the state
	if len(fields) <= started || fields[state] == "Z" {
		return "", os.ErrProcessDone
	}
	return strings.TrimSpace(string(boot)) + "/" + fields[started], nil
}

// Alive lists the recorded processes of the group in dir that still run, as
// "name (pid)".
func Alive(dir string) ([]string, error) {
	var list []string
	err := each(dir, func(pid int, name string) {
		list = append(list, fmt.Sprintf("%s (%d)", name, pid))
	})
	return list, err
}

// Sweep kills the recorded processes of the group in dir that still run, and
// waits until they are gone.
func Sweep(dir string) error {
	err := each(dir, func(pid int, _ string) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	})
	if err != nil {
		return err
	}
	for end := time.Now().Add(sweepTime); ; time.Sleep(20 * time.Millisecond) {
		left, err := Alive(dir)
		switch {
		case err != nil:
			return err
		case len(left) == 0:
			return nil
		case time.Now().After(end):
			return fmt.Errorf("cannot end %s: still there %s after they were killed", strings.Join(left, ", "), sweepTime)
		}
	}
}

func each(dir string, fn func(pid int, name string)) error {
	f, err := os.Open(filepath.Join(dir, recordName))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot tell which processes are left: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.SplitN(lines.Text(), " ", 3)
		if len(fields) != 3 {
			continue // a line that a power cut tore
		}
		pid, err := strconv.Atoi(fields[0])
		if err != nil || pid <= 1 {
			continue
		}
		if started, err := startOf(pid); err == nil && started == fields[1] {
			fn(pid, fields[2])
		}
	}
	return lines.Err()
}
