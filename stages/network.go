package stages

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/adapter"
	"github.com/projecteru2/firstboot/internal/cluster"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/units"
)

// lastWithStore is the last major release of Docker that has a cluster-store.
const lastWithStore = 20

// networkMode is the mode of this host's Docker network. Its zero value means that
// the mode is not known yet.
type networkMode struct {
	mode   string // config.NetworkLocal or config.NetworkGlobal
	reason string
}

func (m networkMode) local() bool  { return m.mode == config.NetworkLocal }
func (m networkMode) global() bool { return m.mode == config.NetworkGlobal }

// String returns the mode with its reason.
func (m networkMode) String() string { return m.mode + " (" + m.reason + ")" }

func localBecause(format string, args ...any) networkMode {
	return networkMode{config.NetworkLocal, fmt.Sprintf(format, args...)}
}

func globalBecause(format string, args ...any) networkMode {
	return networkMode{config.NetworkGlobal, fmt.Sprintf(format, args...)}
}

// network returns the mode of this host's Docker network: the configured one, or
// the one that preflight recorded. If neither decides, it applies preflight's rule
// to the machine.
func (e *Env) network(ctx context.Context) (networkMode, error) {
	if mode := e.decidedMode(); mode.mode != "" {
		return mode, nil
	}
	if e.Host.IsOffline() {
		return e.modeOfFiles(), nil
	}
	d, err := e.queryDocker(ctx)
	if err != nil {
		return networkMode{}, err
	}
	return e.decideMode(ctx, d)
}

// NetworkMode describes the mode of this host's Docker network in one line. It is
// empty if the mode cannot be determined now.
func (e *Env) NetworkMode(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	mode, err := e.network(ctx)
	if err != nil {
		return ""
	}
	return mode.String()
}

// decidedMode returns the mode that is already decided, or the zero mode.
func (e *Env) decidedMode() networkMode {
	if c := e.Config.Docker.Network; c == config.NetworkLocal || c == config.NetworkGlobal {
		return networkMode{c, "docker.network"}
	}
	if e.Config.Etcd.TLS() {
		return localBecause("etcd has https endpoints")
	}
	recorded := e.Notes.Notes().Network
	switch {
	case recorded.Mode != "":
		return networkMode{recorded.Mode, recorded.Reason}
	case recorded.Again, !e.Host.Exists(state.MarkerPath):
		return networkMode{}
	case e.Host.Exists(adapter.Path):
		return localBecause("this host has %s", adapter.Path)
	case dockerd.ConfiguredStore(e.Host) != "":
		return globalBecause("an earlier firstboot completed this host with a cluster-store")
	}
	return networkMode{}
}

// modeOfFiles decides for a root directory, whose Docker and etcd cannot be
// queried.
func (e *Env) modeOfFiles() networkMode {
	if store, source := e.wantedStore(dockerd.Info{}); store != "" {
		return globalBecause("%s is %s", source, store)
	}
	return localBecause("no cluster-store is configured")
}

// decideMode applies the rule for docker.network: auto. A cluster-store needs a
// Docker up to 20.10 and etcd's v2 API. Without one that somebody configured, the
// network is local.
func (e *Env) decideMode(ctx context.Context, d dockerState) (networkMode, error) {
	if mode := e.decidedMode(); mode.mode != "" {
		return mode, nil
	}
	store, source := e.wantedStore(d.info)
	if store == "" && !d.active {
		store, source = dockerd.ReadFlags(ctx, e.Host).ClusterStore(), "Docker's flag --cluster-store"
	}
	version := d.info.ServerVersion
	if store != "" && !d.active {
		version = e.installedDocker(ctx)
	}
	if major, _, ok := dockerd.Release(version); ok && major > lastWithStore {
		return localBecause("Docker %s has no cluster-store", shortVersion(version)), nil
	}
	if store == "" {
		if d.unresponsive { // it may have a store of its command line
			return networkMode{}, &engine.Wait{For: "Docker to respond", Err: errors.New("its cluster-store is not known")}
		}
		return localBecause("no cluster-store is configured"), nil
	}
	noV2 := false
	err := e.withEtcd(ctx, func(ctx context.Context, c *cluster.Client) error {
		err := c.ServesV2(ctx)
		if noV2 = errors.Is(err, cluster.ErrNoV2); noV2 {
			return nil
		}
		return e.etcdWait(err)
	})
	switch {
	case err != nil:
		return networkMode{}, err
	case noV2:
		return localBecause("etcd has no v2 API, which a cluster-store needs"), nil
	}
	return globalBecause("%s is %s", source, store), nil
}

// wantedStore returns the cluster-store that somebody configured, and where. auto
// alone configures none.
func (e *Env) wantedStore(info dockerd.Info) (store, source string) {
	if store := dockerd.ConfiguredStore(e.Host); store != "" {
		return store, "cluster-store in " + dockerd.ConfigPath
	}
	if info.ClusterStore != "" {
		return info.ClusterStore, "Docker's cluster-store"
	}
	if c := e.Config.Docker.ClusterStore; c != config.ClusterStoreAuto && c != config.ClusterStoreOff && c != "" {
		return c, "docker.clusterStore"
	}
	return "", ""
}

// installedDocker returns the version of a Docker that does not run, "" if it
// cannot be determined.
func (e *Env) installedDocker(ctx context.Context) string {
	program, ok := e.Host.LookPath("dockerd")
	if !ok {
		return ""
	}
	out, err := e.Host.QueryOnce(ctx, host.Command{Name: program, Args: []string{"--version"}, Timeout: 20 * time.Second})
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out.Stdout))
}

// shortVersion returns the number in a version such as 26.1.5+dfsg1, or in the
// output of dockerd --version.
func shortVersion(version string) string {
	for word := range strings.FieldsSeq(version) {
		if word != "" && word[0] >= '0' && word[0] <= '9' {
			word, _, _ = strings.Cut(strings.TrimSuffix(word, ","), "+")
			return word
		}
	}
	return version
}

// recordMode stores the mode that preflight decided on. Only run --force decides
// again. A command that only checks stores nothing.
func (e *Env) recordMode(mode networkMode) error {
	record := state.Network{Mode: mode.mode, Reason: mode.reason}
	if e.Notes.Notes().Network == record {
		return nil
	}
	return e.Notes.SetNotes(func(n *state.Notes) { n.Network = record })
}

// dockerState is the state of Docker before the run changes anything.
type dockerState struct {
	load         string            // the unit's LoadState: loaded, not-found, masked
	active       bool              // the unit is active
	unresponsive bool              // active, but the API does not answer: Docker causes no findings
	info         dockerd.Info      // only if active
	networks     []dockerd.Network // only if active
	mode         networkMode       // zero if it cannot be determined yet
	localScope   bool              // the mode is global, and Docker knows the plugin's scope as local
}

// queryDocker queries systemd first, because a request to Docker's socket would
// start Docker. It leaves out the networks.
func (e *Env) queryDocker(ctx context.Context) (dockerState, error) {
	unit, err := e.Host.Systemd().Unit(ctx, units.Docker)
	if err != nil {
		return dockerState{}, err
	}
	d := dockerState{load: unit.Load, active: unit.Active == "active"}
	if !d.active {
		return d, nil
	}
	if d.info, err = e.docker().Info(ctx); err != nil {
		d.unresponsive = true
		return d, &engine.Wait{For: "Docker to respond", Err: err}
	}
	return d, nil
}

// isLocalID reports whether a pool is bound to something that is not a global Docker
// network: every Docker network has an ID of 64 hexadecimal digits.
func isLocalID(annotation string) bool { return annotation != "" && !dockerd.IsID(annotation) }
