package adapter

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/host"
)

// Docker makes the plugin delete an endpoint only if it knows the endpoint. It does
// not if the answer to CreateEndpoint was lost, and it forgets its endpoints when it
// is killed. So the adapter records each endpoint before the plugin creates it, and
// deletes those that no container uses (abandoned.go). A record ends when the
// endpoint is deleted. The records are in /run, so they survive the adapter, but not
// a boot: firstboot wait-plugin removes what a power cut leaves in etcd.

const (
	// endpointsDir contains an empty file for each endpoint. Its name is the
	// endpoint's ID.
	endpointsDir = foreignDir + "/endpoints"
	// unusedSuffix follows the ID while Docker does not use the endpoint: until the
	// plugin has created it, and as soon as Docker deletes it.
	unusedSuffix = ".unused"
	// maxEndpoints bounds the records. A host has one endpoint per container.
	maxEndpoints = 10000
)

const (
	// lateLimit is how long the plugin may continue with a call after the adapter
	// stopped waiting for its answer.
	lateLimit = 2 * time.Minute
	// joinLimit is how long Docker may take from the answer to CreateEndpoint until
	// the interface is in the container. A busy host takes long.
	joinLimit = 5 * time.Minute
	// unlinkLimit is how long Docker may take from the removal of the interface until
	// it calls DeleteEndpoint. The container has no network in this time.
	unlinkLimit = 10 * time.Second
)

// endpoint is what the adapter knows about an endpoint of the pool's networks.
type endpoint struct {
	used    bool      // Docker uses it, unless Docker was killed
	linked  bool      // its interface existed
	calls   int       // Docker's calls in flight
	idle    time.Time // the end of the last call, or when a container last had it
	settled time.Time // the plugin does not create it later than this
}

// endpoints are the endpoints of the pool's networks. Docker's calls and the removal
// of abandoned endpoints use it at the same time.
type endpoints struct {
	host *host.Host
	log  func(line string)

	mu  sync.Mutex
	all map[string]*endpoint // by ID
}

// loadEndpoints reads the records of an adapter that has ended. Docker got no answer
// to the calls that were in flight.
func loadEndpoints(h *host.Host, log func(line string)) *endpoints {
	e := &endpoints{host: h, log: log, all: map[string]*endpoint{}}
	now := time.Now()
	names, err := h.ReadDir(endpointsDir)
	if err != nil {
		log("cannot read the records of endpoints: " + err.Error())
	}
	for _, name := range names {
		id, unused := strings.CutSuffix(name, unusedSuffix)
		if dockerd.IsID(id) && len(e.all) < maxEndpoints {
			e.all[id] = &endpoint{used: !unused, idle: now, settled: now.Add(lateLimit)}
		}
	}
	return e
}

// Endpoints returns the IDs of the endpoints that this machine's adapter had created
// since the boot, and that are not deleted yet.
func Endpoints(h *host.Host) (map[string]bool, error) {
	names, err := h.ReadDir(endpointsDir)
	ids := map[string]bool{}
	for _, name := range names {
		ids[strings.TrimSuffix(name, unusedSuffix)] = true
	}
	return ids, err
}

// creating records an endpoint that the plugin is about to create.
func (e *endpoints) creating(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !dockerd.IsID(id) || len(e.all) >= maxEndpoints {
		return
	}
	e.all[id] = &endpoint{calls: 1}
	e.record(id, e.host.WriteFile(recordOf(id, false), nil, 0o600))
}

// created ends creating. It comes before the answer to Docker, so that Docker never
// uses an endpoint that is recorded as unused.
func (e *endpoints) created(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if known := e.all[id]; known != nil {
		*known = endpoint{used: true, idle: time.Now()}
		e.record(id, e.host.Rename(recordOf(id, false), recordOf(id, true)))
	}
}

// failed ends creating. The plugin may still create the endpoint within late.
func (e *endpoints) failed(id string, late time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if known := e.all[id]; known != nil {
		*known = endpoint{settled: time.Now().Add(late)}
	}
}

// deleting records that Docker deletes the endpoint. Docker does not do it again if
// the call fails.
func (e *endpoints) deleting(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if known := e.all[id]; known != nil && known.used {
		known.used = false
		e.record(id, e.host.Rename(recordOf(id, true), recordOf(id, false)))
	}
}

// use marks a call of Docker that uses the endpoint, until end is called.
func (e *endpoints) use(id string) (end func()) {
	e.count(id, 1)
	return func() { e.count(id, -1) }
}

func (e *endpoints) count(id string, calls int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if known := e.all[id]; known != nil {
		known.calls, known.idle = known.calls+calls, time.Now()
	}
}

// joined marks that the endpoint has an interface.
func (e *endpoints) joined(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if known := e.all[id]; known != nil {
		known.linked = true
	}
}

// forget ends the record of an endpoint that does not exist.
func (e *endpoints) forget(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, known := e.all[id]; !known {
		return
	}
	delete(e.all, id)
	for _, used := range []bool{true, false} {
		if path := recordOf(id, used); e.host.Exists(path) {
			e.record(id, e.host.Remove(path))
		}
	}
}

func recordOf(id string, used bool) string {
	if used {
		return endpointsDir + "/" + id
	}
	return endpointsDir + "/" + id + unusedSuffix
}

func (e *endpoints) record(id string, err error) {
	if err != nil {
		e.log("cannot record the endpoint " + id + ": " + err.Error())
	}
}

func (e *endpoints) empty() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.all) == 0
}

// settled reports whether an endpoint that does not exist will not be created.
func (e *endpoints) settled(id string, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	known := e.all[id]
	return known == nil || known.used || !now.Before(known.settled)
}

// abandoned returns the IDs of the endpoints that no container uses, sorted. links
// are the host's interfaces.
func (e *endpoints) abandoned(links map[string]bool, now time.Time) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(e.all)) {
		// Docker moves the other end of the interface into the container.
		link, inContainer := links[linkOf(id)], !links[otherEnd(id)]
		if e.all[id].abandoned(link, inContainer, now) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (p *endpoint) abandoned(link, inContainer bool, now time.Time) bool {
	if link {
		p.linked = true
	}
	if link && inContainer {
		p.used, p.idle = true, now
	}
	idle := now.Sub(p.idle)
	switch {
	case p.calls > 0:
		return false
	case !p.used:
		return true
	case p.linked && !link:
		return idle >= unlinkLimit // a removed interface does not come back
	}
	return idle >= joinLimit
}
