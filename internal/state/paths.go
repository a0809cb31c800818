// Package state keeps what happened on this machine: the journal of the
// current run, the completion marker, the machine's identity, the manifest of
// what firstboot wrote, and the lock that keeps two runs apart. It knows files
// and formats, and nothing of stages or Calico.
package state

// The fixed paths on a host.
const (
	Dir           = "/var/lib/firstboot"
	JournalPath   = Dir + "/journal.json"         // 0600
	MarkerPath    = Dir + "/complete.json"        // 0600; only a verified machine has one
	RetiredPath   = Dir + "/complete.former.json" // 0600; a marker that a forced run put out of force
	ManifestPath  = Dir + "/manifest.json"        // 0600
	EffectivePath = Dir + "/effective.yaml"       // 0600; the configuration of the first valid load
	ForeignDir    = Dir + "/foreign"              // what another machine's identity left here, set aside
	LockPath      = "/run/firstboot/lock"
)

// Schema is the version of the files' format. A binary that meets a newer one
// stops rather than misread it.
const Schema = 1
