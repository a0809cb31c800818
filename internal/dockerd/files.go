package dockerd

import (
	"bytes"
	"context"
	"strings"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/units"
)

// Running reports whether Docker runs, in whatever way it was started. While
// docker.service runs its ExecStartPre=, it is activating without a dockerd.
func Running(ctx context.Context, h *host.Host) (bool, error) {
	unit, err := h.Systemd().Unit(ctx, units.Docker)
	if err != nil {
		return false, err
	}
	if unit.Active == "active" || unit.Active == "reloading" || unit.Active == "deactivating" {
		return true, nil
	}
	processes, err := h.ReadDir("/proc")
	if err != nil {
		return false, err
	}
	for _, pid := range processes {
		if strings.Trim(pid, "0123456789") != "" {
			continue
		}
		name, err := h.ReadFile("/proc/" + pid + "/comm")
		if err == nil && strings.TrimSpace(string(name)) == "dockerd" { // an error: it has ended
			return true, nil
		}
	}
	return false, nil
}

// Records are the files in which Docker names its endpoints: the store of its
// sandboxes, and the configuration of each container.
type Records [][]byte

// ReadRecords reads the records of a Docker that does not run. exist is false if
// Docker has no data.
func ReadRecords(h *host.Host) (records Records, exist bool) {
	root := ReadSettings(h).DataRoot()
	exist = h.Exists(root+"/containers") || h.Exists(root+"/network")
	containers, _ := h.ReadDir(root + "/containers") // it may not exist
	paths := []string{root + "/network/files/local-kv.db"}
	for _, id := range containers {
		paths = append(paths, root+"/containers/"+id+"/config.v2.json")
	}
	for _, path := range paths {
		if data, err := h.ReadFile(path); err == nil {
			records = append(records, data)
		}
	}
	return records, exist
}

// Mention reports whether a record contains an ID.
func (r Records) Mention(id string) bool {
	for _, data := range r {
		if bytes.Contains(data, []byte(id)) {
			return true
		}
	}
	return false
}

// HasStoredImage reports whether a Docker that does not run has an image of this
// name below its data root. containerd's image store is not read.
func HasStoredImage(h *host.Host, dataRoot, name string) bool {
	store := dataRoot + "/image"
	drivers, _ := h.ReadDir(store) // no such directory: Docker never ran
	for _, driver := range drivers {
		names, err := h.ReadFile(store + "/" + driver + "/repositories.json")
		if err == nil && strings.Contains(string(names), `"`+name+`"`) {
			return true
		}
	}
	return false
}
