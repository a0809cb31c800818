package dockerd

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/text"
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

// StoredContainer is a container in the files of a Docker that may not run.
type StoredContainer struct {
	Name     string
	Networks map[string]Attachment // by network name
	Restarts bool                  // Docker starts it when it starts itself
}

// StoredContainers reads the containers from Docker's files, sorted by name. One
// whose files cannot be read is left out.
func StoredContainers(h *host.Host) []StoredContainer {
	dir := ReadSettings(h).DataRoot() + "/containers/"
	ids, _ := h.ReadDir(dir) // it may not exist
	var list []StoredContainer
	for _, id := range ids {
		var container struct {
			Name            string
			NetworkSettings struct{ Networks map[string]Attachment }
		}
		var settings struct{ RestartPolicy struct{ Name string } }
		if !readJSON(h, dir+id+"/config.v2.json", &container) || !readJSON(h, dir+id+"/hostconfig.json", &settings) {
			continue
		}
		policy := settings.RestartPolicy.Name
		list = append(list, StoredContainer{
			Name: text.Line(strings.TrimPrefix(container.Name, "/")), Networks: container.NetworkSettings.Networks,
			Restarts: policy != "" && policy != "no",
		})
	}
	slices.SortFunc(list, func(a, b StoredContainer) int { return strings.Compare(a.Name, b.Name) })
	return list
}

func readJSON(h *host.Host, path string, value any) bool {
	data, err := h.ReadFile(path)
	return err == nil && json.Unmarshal(data, value) == nil
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
