// Package state keeps the state of firstboot on this machine: the journal of the
// current run, the completion marker, the record of a host that left, the
// machine's identity, the manifest of the files that firstboot wrote, and the
// lock that prevents two commands at the same time. It defines the states of a
// host and the only legal transitions between them (lifecycle.go). It knows the
// files and their formats. It knows nothing about stages or Calico.
package state

import "github.com/projecteru2/firstboot/internal/host"

// The fixed paths on a host.
const (
	Dir           = host.StateDir                 // 0700
	JournalPath   = Dir + "/journal.json"         // 0600
	ProgressPath  = "/run/firstboot/journal.json" // 0600; the journal of a run in progress, lost at a reboot
	MarkerPath    = Dir + "/complete.json"        // 0600; only a verified machine has one
	RetiredPath   = Dir + "/complete.former.json" // 0600; the last retired marker
	LeftPath      = Dir + "/left.json"            // 0600; only a host that left, or is leaving, has one
	ManifestPath  = Dir + "/manifest.json"        // 0600
	EffectivePath = Dir + "/effective.yaml"       // 0600; the configuration of the first valid load
	ReportPath    = Dir + "/report.json"          // 0600; a report that is to be delivered
	ForeignDir    = Dir + "/foreign"              // the state of other machines, set aside
	LockPath      = "/run/firstboot/lock"         // 0600; whoever may open it can hold the lock
	HolderPath    = "/run/firstboot/holder.json"  // 0644; which process holds the lock
)

// Schema is the version of the format of these files. A binary refuses a newer
// one rather than misread it.
const Schema = 1
