package report

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"

	"github.com/coreos/go-systemd/v22/journal"

	"github.com/projecteru2/firstboot/internal/fault"
)

// ConsoleVariable names a terminal that also gets every line of the journal.
// firstboot.service sets it: systemd copies lines to its console only from
// stdout, which cannot carry fields.
const ConsoleVariable = "FIRSTBOOT_CONSOLE"

// Line is one line for people, with the fields of its journal entry.
type Line struct {
	Text     string // without "firstboot: "
	Priority journal.Priority
	Stage    string // FIRSTBOOT_STAGE; "" if the line belongs to no stage
	Attempt  int    // FIRSTBOOT_ATTEMPT, from 1; 0 if it belongs to no attempt
	Cause    error  // FIRSTBOOT_CAUSE and FIRSTBOOT_KIND; nil without a failure
}

// Journal writes lines as entries of systemd's journal. As an io.Writer it takes
// lines that begin with "firstboot: ". The journal's own columns name the
// program, so entries do not repeat that.
type Journal struct {
	mu      sync.Mutex
	stream  io.Writer // used if an entry cannot be sent
	send    func(message string, p journal.Priority, fields map[string]string) error
	unit    string // this process's unit
	console *console
	rest    string // the beginning of a line that Write has not received in full
}

// Outputs returns the outputs of the process: stdout and stderr, or a Journal for
// each that systemd connected to the journal ($JOURNAL_STREAM). Close sends what
// is left.
func Outputs() (stdout, stderr io.Writer, closeAll func()) {
	stdout, stderr = os.Stdout, os.Stderr
	second := openConsole(os.Getenv(ConsoleVariable))
	// An error means that the variable is malformed: not the journal.
	var journals []*Journal
	if is, err := journal.StdoutIsJournalStream(); err == nil && is {
		journals = append(journals, newJournal(os.Stdout, second))
		stdout = journals[0]
	}
	if is, err := journal.StderrIsJournalStream(); err == nil && is {
		journals = append(journals, newJournal(os.Stderr, second))
		stderr = journals[len(journals)-1]
	}
	return stdout, stderr, func() {
		for _, j := range journals {
			j.flush()
		}
		second.close()
	}
}

func newJournal(stream io.Writer, second *console) *Journal {
	cgroups, _ := os.ReadFile("/proc/self/cgroup") // without it no unit is named
	return &Journal{stream: stream, send: journal.Send, unit: unitOf(string(cgroups)), console: second}
}

// unitOf returns the unit in the text of /proc/PID/cgroup.
func unitOf(cgroups string) string {
	for line := range strings.Lines(cgroups) {
		if unit := path.Base(strings.TrimSpace(line)); strings.HasSuffix(unit, ".service") {
			return unit
		}
	}
	return ""
}

// Log writes one entry.
func (j *Journal) Log(l Line) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.log(l)
}

func (j *Journal) log(l Line) {
	j.console.write("firstboot: " + l.Text + "\n")
	if err := j.send(l.Text, l.Priority, j.fields(l)); err != nil {
		// sd-daemon(3): journald reads the priority from the prefix of a line.
		_, _ = fmt.Fprintf(j.stream, "<%d>%s\n", l.Priority, l.Text)
	}
}

func (j *Journal) fields(l Line) map[string]string {
	fields := map[string]string{"SYSLOG_IDENTIFIER": "firstboot"}
	if j.unit != "" {
		// journald finds the unit by the process, which may have ended by then.
		// journalctl --unit also finds entries of root with this field.
		fields["OBJECT_SYSTEMD_UNIT"] = j.unit
	}
	if l.Stage != "" {
		fields["FIRSTBOOT_STAGE"] = l.Stage
	}
	if l.Attempt > 0 {
		fields["FIRSTBOOT_ATTEMPT"] = strconv.Itoa(l.Attempt)
	}
	if l.Cause != nil {
		fields["FIRSTBOOT_CAUSE"] = clean(errorText(l.Cause))
		if kind := fault.KindOf(l.Cause); kind != fault.Unknown {
			fields["FIRSTBOOT_KIND"] = string(kind)
		}
	}
	return fields
}

// Write writes each complete line as an entry.
func (j *Journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	text := j.rest + string(p)
	for {
		line, rest, complete := strings.Cut(text, "\n")
		if !complete && len(text) < maxLine {
			j.rest = text
			return len(p), nil
		}
		text = rest
		if line != "" {
			j.log(parseLine(line))
		}
	}
}

// flush writes a last line that has no end.
func (j *Journal) flush() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.rest != "" {
		j.log(parseLine(j.rest))
		j.rest = ""
	}
}

// parseLine returns a line of text with the priority that its first word means.
func parseLine(text string) Line {
	text = strings.TrimPrefix(text, "firstboot: ")
	l := Line{Text: text, Priority: journal.PriInfo}
	word, message, _ := strings.Cut(text, ": ")
	switch {
	case word == "error":
		l.Priority, l.Cause = journal.PriErr, errors.New(message)
	case strings.HasPrefix(word, "failed after "), strings.HasPrefix(word, "refused after "):
		l.Priority = journal.PriErr
	case word == "warning":
		l.Priority = journal.PriWarning
	case word == "hint", word == "next", word == "type", strings.TrimSpace(word) == "or":
		l.Priority = journal.PriNotice
	}
	return l
}
