package host

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// processes are a process group and all descendants of its leader, including
// those that have left the group.
type processes struct {
	group int
	found map[int]string // start time by pid
}

// descendants finds the processes of a command while it runs. A process whose
// parent has ended cannot be found, but is usually in the group.
func descendants(leader int) *processes {
	p := &processes{group: leader, found: map[int]string{}}
	children := map[int][]int{}
	started := map[int]string{}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return p
	}
	for _, path := range stats {
		if pid, parent, start, ok := readStat(path); ok {
			children[parent] = append(children[parent], pid)
			started[pid] = start
		}
	}
	for next := []int{leader}; len(next) > 0; next = next[1:] {
		for _, pid := range children[next[0]] {
			if _, seen := p.found[pid]; !seen {
				p.found[pid] = started[pid]
				next = append(next, pid)
			}
		}
	}
	return p
}

// signal sends a signal to the processes that still exist.
func (p *processes) signal(s syscall.Signal) {
	_ = syscall.Kill(-p.group, s) // the group may be empty
	for pid, started := range p.found {
		// A pid may belong to another process by now.
		if _, _, start, ok := readStat(fmt.Sprintf("/proc/%d/stat", pid)); ok && start == started {
			_ = syscall.Kill(pid, s)
		}
	}
}

// readStat reads the pid, the parent's pid and the start time of a process
// (proc_pid_stat(5)).
func readStat(path string) (pid, parent int, start string, ok bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, "", false
	}
	return parseStat(string(data))
}

func parseStat(line string) (pid, parent int, start string, ok bool) {
	first, _, found := strings.Cut(line, " ")
	// The name of the program may contain spaces and parentheses.
	end := strings.LastIndexByte(line, ')')
	if !found || end < 0 {
		return 0, 0, "", false
	}
	fields := strings.Fields(line[end+1:])
	const parentField, startField = 1, 19
	if len(fields) <= startField {
		return 0, 0, "", false
	}
	pid, err := strconv.Atoi(first)
	parent, err2 := strconv.Atoi(fields[parentField])
	return pid, parent, fields[startField], err == nil && err2 == nil
}
