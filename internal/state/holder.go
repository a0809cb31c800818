package state

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// The commands that hold the lock.
const (
	CommandRun    = "run"
	CommandLeave  = "leave"
	CommandSeal   = "seal"
	CommandVerify = "verify"
)

// Holder is the process that holds the lock. It is recorded beside the lock, in a
// file that every user can read, because a user who can open the lock itself can
// also hold it.
type Holder struct {
	PID     int    `json:"pid"`
	Command string `json:"command"`
	Started uint64 `json:"started"` // of the process, in clock ticks since the boot: a PID is used again
}

// writeHolder records this process.
func writeHolder(path, command string) error {
	started, _ := processStart(os.Getpid()) // 0 without /proc
	data, err := json.Marshal(Holder{os.Getpid(), command, started})
	if err != nil {
		return err
	}
	// The temporary file is in the same directory: /tmp may be another file system.
	return renameio.WriteFile(path, data, 0o644, renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(0o644))
}

// maxHolder limits the record, in bytes.
const maxHolder = 1000

// readHolder returns the recorded process and whether it still exists. The record
// is not durable and may be of a killed command.
func readHolder(path string) (Holder, bool) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return Holder{}, false
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxHolder))
	h, ok := parseHolder(data)
	if err != nil || !ok || errors.Is(unix.Kill(h.PID, 0), unix.ESRCH) {
		return Holder{}, false
	}
	if started, ok := processStart(h.PID); ok && started != h.Started {
		return Holder{}, false // another process has this PID now
	}
	return h, true
}

// parseHolder parses the record and reports whether it names a process.
func parseHolder(data []byte) (Holder, bool) {
	var h Holder
	if json.Unmarshal(data, &h) != nil || h.PID <= 0 {
		return Holder{}, false
	}
	return h, true
}

// startField is the index of starttime in /proc/PID/stat after the command name,
// which ends with ")" (proc(5): field 22 of all).
const startField = 19

// processStart returns when a process started, in clock ticks since the boot.
func processStart(pid int) (uint64, bool) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false
	}
	return parseStart(string(data))
}

// parseStart returns the start of the process in the text of /proc/PID/stat.
func parseStart(text string) (uint64, bool) {
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) <= startField {
		return 0, false
	}
	started, err := strconv.ParseUint(fields[startField], 10, 64)
	return started, err == nil
}
