package state

import (
	"strings"

	"github.com/projecteru2/firstboot/internal/text"
)

// The limits of external text in the state files. firstboot must be able to read
// what it writes.
const (
	maxText        = 2000 // bytes of one text
	maxWarnings    = 20   // of one stage
	maxDifferences = 100  // of one stage
	maxID          = 64   // bytes of a machine's ID
)

// bounded returns s on one line without control characters, cut after maxText
// bytes.
func bounded(s string) string { return text.LineOf(s, maxText) }

// boundedID returns the characters of an ID that are safe in a file name. The ID
// may come from another machine's file.
func boundedID(id string) string {
	id = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-':
			return r
		}
		return -1
	}, id)
	return id[:min(len(id), maxID)]
}

// bound limits every external text of the journal, so that what it writes can be
// read back as the same journal.
func (j *Journal) bound() {
	j.Error, j.Version = bounded(j.Error), bounded(j.Version)
	for i := range j.Stages {
		j.Stages[i].bound()
	}
	if len(j.Notes.Installed) == 0 {
		j.Notes.Installed = nil // an empty list is written like a missing one
	}
	p := &j.Notes.Probe
	p.BootID, p.NetworkID, p.Address = bounded(p.BootID), bounded(p.NetworkID), bounded(p.Address)
}

func (s *Stage) bound() {
	s.Name, s.Error, s.Hint, s.WaitsFor = bounded(s.Name), bounded(s.Error), bounded(s.Hint), bounded(s.WaitsFor)
	s.Warnings = s.Warnings[:min(len(s.Warnings), maxWarnings)]
	for i, w := range s.Warnings {
		s.Warnings[i] = bounded(w)
	}
	s.Differences = s.Differences[:min(len(s.Differences), maxDifferences)]
	for i, d := range s.Differences {
		s.Differences[i] = Difference{bounded(d.Name), bounded(d.Object), bounded(d.Actual), bounded(d.Expected), bounded(d.Fix)}
	}
}

// shorten removes the lists of all stages. Their errors stay.
func (j *Journal) shorten() {
	for i := range j.Stages {
		j.Stages[i].Warnings, j.Stages[i].Differences = nil, nil
	}
}
