package stages

import (
	"context"
	"time"

	"github.com/projecteru2/firstboot/internal/calico"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
)

const udevUnit = "systemd-udevd.service"

// files is the stage "config": it writes the configuration files of calicoctl,
// Docker, udev and NetworkManager.
type files struct{ *Env }

func (files) Name() string    { return "config" }
func (files) After() []string { return []string{"preflight"} }

// wanted returns the files that this host needs.
func (s files) wanted(ctx context.Context) ([]host.File, error) {
	ctl, err := calico.CtlConfig(s.Config.Etcd)
	if err != nil {
		return nil, err
	}
	list := []host.File{ctl, calico.LinkFile()}
	if s.Host.Exists(networkManagerDir) {
		list = append(list, host.File{Path: networkManagerPath, Data: []byte(networkManagerFile), Mode: 0o644})
	}
	daemon, err := s.daemonFile(ctx)
	return append(list, daemon...), err
}

// daemonFile returns daemon.json, unless it is complete or firstboot does not
// change it: with the cluster-store of a global network, or without the one that a
// local network excludes. The file of an image, which lacks the address, stays:
// only a reload needs the address, and a change of the file a restart.
func (s files) daemonFile(ctx context.Context) ([]host.File, error) {
	mode, err := s.network(ctx)
	if err != nil {
		return nil, err
	}
	if !mode.global() {
		return s.daemonFileWithoutStore(ctx)
	}
	store := dockerd.ClusterStore(s.Config)
	if store == "" {
		return nil, nil
	}
	fromImage, err := dockerd.StoreLacksAddress(s.Host, store)
	if err != nil || fromImage {
		return nil, err
	}
	address, err := s.address(ctx)
	if err != nil {
		return nil, err
	}
	file, err := dockerd.StoreFile(s.Host, store, address)
	return []host.File{file}, err
}

// daemonFileWithoutStore returns daemon.json without a cluster-store: without
// firstboot's, because the local network has the same name as the global one, and
// without any if Docker cannot start with it.
func (s files) daemonFileWithoutStore(ctx context.Context) ([]host.File, error) {
	if !dockerd.HasStoreKeys(s.Host) {
		return nil, nil
	}
	if !dockerd.IsOwnStore(s.Config, dockerd.ConfiguredStore(s.Host)) {
		major, _, ok := dockerd.Release(s.installedDocker(ctx))
		if !ok || major <= lastWithStore {
			return nil, nil
		}
	}
	file, err := dockerd.FileWithoutStore(s.Host)
	return []host.File{file}, err
}

func (s files) Check(ctx context.Context) (engine.CheckResult, error) {
	var f engine.CheckResult
	list, err := s.wanted(ctx)
	if err != nil {
		return f, err
	}
	if err := checkFiles(s.Host, list, &f); err != nil {
		return f, err
	}
	if f.OK() {
		s.checkManager(ctx, &f)
		s.checkLoaded(ctx, &f)
	}
	return f, nil
}

// checkLoaded adds a difference if udevd or NetworkManager runs and has not read
// its file. A run can end between the write and the reload. A daemon that does
// not run reads the file when it starts.
func (s files) checkLoaded(ctx context.Context, f *engine.CheckResult) {
	for _, daemon := range []struct{ unit, path string }{{udevUnit, calico.LinkPath}, {networkManagerUnit, networkManagerPath}} {
		unit, err := s.Host.Systemd().Unit(ctx, daemon.unit)
		if err != nil || unit.Active != "active" || !s.Host.Exists(daemon.path) {
			continue
		}
		loaded := unit.Since
		if reloaded := s.Notes.Notes().FilesReloaded; reloaded.After(loaded) {
			loaded = reloaded
		}
		older, err := s.startedBefore(loaded, daemon.path)
		if err == nil && older || s.Notes.Notes().IsOutdated(daemon.unit, unit.Since) {
			f.Add(engine.Difference{Object: daemon.unit, Actual: "has not read " + daemon.path, Expected: "a reload"})
		}
	}
}

func (s files) Apply(ctx context.Context, _ engine.Progress) error {
	s.expectFiles(ctx)
	list, err := s.wanted(ctx)
	if err != nil {
		return err
	}
	if err := s.writeFiles(ctx, list, udevUnit, networkManagerUnit); err != nil {
		return err
	}
	return s.reload(ctx)
}

// reload makes udevd and NetworkManager read their files before the first
// container starts, and records the time in the notes.
func (s files) reload(ctx context.Context) error {
	start := time.Now()
	if err := s.reloadDaemons(ctx); err != nil {
		return err
	}
	return s.Notes.SetNotes(func(n *state.Notes) {
		n.FilesReloaded = start
		n.SetOutdated(udevUnit, time.Time{})
		n.SetOutdated(networkManagerUnit, time.Time{})
	})
}

func (s files) reloadDaemons(ctx context.Context) error {
	if _, ok := s.Host.LookPath("udevadm"); ok {
		_, err := s.Host.Run(ctx, host.Command{Name: "udevadm", Args: []string{"control", "--reload"}, Timeout: 20 * time.Second})
		if err != nil {
			return &engine.Retry{Err: err}
		}
	}
	if !s.Host.Exists(networkManagerDir) {
		return nil
	}
	unit, err := s.Host.Systemd().Unit(ctx, networkManagerUnit)
	if err != nil || unit.Active != "active" {
		return nil //nolint:nilerr // a NetworkManager that is not running reads the file when it starts
	}
	if err := s.Host.Systemd().Reload(ctx, networkManagerUnit); err != nil {
		return &engine.Retry{Err: err}
	}
	return nil
}
