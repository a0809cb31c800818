package adapter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	endpointLink = "calic0ffee01234"
	otherLink    = "tempc0ffee01234"
	creation     = `{"NetworkID":"` + dockerNetwork + `","EndpointID":"` + dockerEndpoint + `","Interface":{"Address":"10.213.0.2/16"}}`
)

// store is a plugin that keeps endpoints.
type store struct {
	mu     sync.Mutex
	ids    map[string]bool
	refuse string // Err of DeleteEndpoint

	before, after func(method string) // called before and after a call takes effect
}

// onBefore, onAfter and refuseWith set the fields. A call of the plugin whose
// connection has ended may still be running.
func (s *store) onBefore(f func(method string)) { s.mu.Lock(); defer s.mu.Unlock(); s.before = f }
func (s *store) onAfter(f func(method string))  { s.mu.Lock(); defer s.mu.Unlock(); s.after = f }

func (s *store) refuseWith(text string) { s.mu.Lock(); defer s.mu.Unlock(); s.refuse = text }

func (s *store) hooks() (before, after func(method string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.before, s.after
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var p params
	if body, err := io.ReadAll(r.Body); err != nil || json.Unmarshal(body, &p) != nil {
		panic(fmt.Sprint(err, string(body)))
	}
	method := strings.TrimPrefix(r.URL.Path, "/NetworkDriver.")
	before, after := s.hooks()
	before(method)
	result := s.apply(method, p.EndpointID)
	after(method)
	if result != "" {
		w.WriteHeader(http.StatusInternalServerError)
	}
	json.NewEncoder(w).Encode(struct{ Err string }{result})
}

func (s *store) apply(method, id string) (err string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case method == "CreateEndpoint":
		s.ids[id] = true
	case method == "DeleteEndpoint" && s.refuse != "":
		return s.refuse
	case method == "DeleteEndpoint" && !s.ids[id]:
		return "resource does not exist: WorkloadEndpoint(x)"
	case method == "DeleteEndpoint":
		delete(s.ids, id)
	}
	return ""
}

func (s *store) exists() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ids[dockerEndpoint]
}

// withStore returns a machine that has joined, whose plugin keeps endpoints.
func withStore(tb testing.TB) (*machine, *store) {
	tb.Helper()
	m := newMachine(tb)
	s := &store{ids: map[string]bool{}, before: func(string) {}, after: func(string) {}}
	m.setUp(tb)
	m.addLink(tb, "lo")
	m.startPlugin(tb, s.ServeHTTP)
	return m, s
}

// addLink adds an interface of the machine.
func (m *machine) addLink(tb testing.TB, name string) {
	tb.Helper()
	if err := m.WriteFile(linksDir+"/"+name, nil, 0o600); err != nil {
		tb.Fatal(err)
	}
}

func (m *machine) removeLinks(tb testing.TB, names ...string) {
	tb.Helper()
	for _, name := range names {
		if err := m.Remove(linksDir + "/" + name); err != nil {
			tb.Fatal(err)
		}
	}
}

// call makes one call of the endpoint, which must succeed.
func (m *machine) mustCall(tb testing.TB, method string) {
	tb.Helper()
	if w := m.post("/NetworkDriver."+method, creation); w.Code != http.StatusOK {
		tb.Fatalf("%s: %d %s", method, w.Code, w.Body)
	}
}

// records returns the names of the adapter's records of endpoints.
func (m *machine) records(tb testing.TB) []string {
	tb.Helper()
	names, err := m.ReadDir(endpointsDir)
	if err != nil {
		tb.Fatal(err)
	}
	return names
}

// wantEndpoint fails the test unless the endpoint exists, and has a record, after a
// search that comes later.
func (m *machine) wantEndpoint(tb testing.TB, s *store, what string, later time.Duration, exists, recorded bool) {
	tb.Helper()
	if err := m.removeAbandoned(tb.Context(), time.Now().Add(later)); err != nil {
		tb.Errorf("%s: %v", what, err)
	}
	if got := s.exists(); got != exists {
		tb.Errorf("%s: the endpoint exists: %v", what, got)
	}
	if got := m.records(tb); len(got) > 0 != recorded {
		tb.Errorf("%s: the records are %q", what, got)
	}
}

// TestKillInsideCreateEndpoint restarts the adapter before and after the plugin
// creates the endpoint. Docker has no answer.
func TestKillInsideCreateEndpoint(t *testing.T) {
	t.Run("before", func(t *testing.T) {
		m, s := withStore(t)
		var restarted *Adapter
		s.onBefore(func(method string) {
			if method == "CreateEndpoint" {
				restarted = New(m.Host, m.log)
				if err := restarted.removeAbandoned(t.Context(), time.Now()); err != nil {
					t.Error(err)
				}
			}
		})
		s.onAfter(killAfter("CreateEndpoint"))
		m.post("/NetworkDriver.CreateEndpoint", creation)
		m.Adapter = restarted
		if !s.exists() {
			t.Fatal("the plugin did not create the endpoint")
		}
		m.wantEndpoint(t, s, "at the next search", abandonedInterval, false, false)
	})
	t.Run("after", func(t *testing.T) {
		m, s := withStore(t)
		s.onAfter(killAfter("CreateEndpoint"))
		m.post("/NetworkDriver.CreateEndpoint", creation)
		m.Adapter = New(m.Host, m.log)
		m.wantEndpoint(t, s, "after the start", 0, false, false)
	})
}

// killAfter ends the connection instead of an answer.
func killAfter(method string) func(string) {
	return func(called string) {
		if called == method {
			panic(http.ErrAbortHandler)
		}
	}
}

// A plugin that was killed, or that the adapter no longer waits for, may create the
// endpoint late or never.
func TestRecordOfALostAnswerEndsLate(t *testing.T) {
	m, s := withStore(t)
	s.onBefore(killAfter("CreateEndpoint"))
	if w := m.post("/NetworkDriver.CreateEndpoint", creation); w.Code == http.StatusOK {
		t.Fatal(w.Body)
	}
	m.wantEndpoint(t, s, "before the limit", lateLimit-time.Second, false, true)
	s.apply("CreateEndpoint", dockerEndpoint)
	m.wantEndpoint(t, s, "created late", lateLimit-time.Second, false, false)
	if w := m.post("/NetworkDriver.CreateEndpoint", creation); w.Code == http.StatusOK {
		t.Fatal(w.Body)
	}
	m.wantEndpoint(t, s, "after the limit", lateLimit+time.Second, false, false)
}

// TestKillInsideJoin restarts the adapter in Join. Docker then deletes the endpoint.
func TestKillInsideJoin(t *testing.T) {
	m, s := withStore(t)
	m.mustCall(t, "CreateEndpoint")
	s.onAfter(killAfter("Join"))
	m.post("/NetworkDriver.Join", creation)
	m.Adapter = New(m.Host, m.log)
	m.wantEndpoint(t, s, "after the start", 0, true, true)
	m.mustCall(t, "DeleteEndpoint")
	m.wantEndpoint(t, s, "after DeleteEndpoint", 0, false, false)
}

// The endpoint is removed at once if CreateEndpoint fails, and not later.
func TestFailedCreateEndpointIsUndone(t *testing.T) {
	m, s := withStore(t)
	deleted := make(chan bool, 1)
	s.onAfter(func(method string) {
		killAfter("CreateEndpoint")(method)
		deleted <- s.exists()
	})
	m.serve(t)
	m.post("/NetworkDriver.CreateEndpoint", creation)
	select {
	case exists := <-deleted:
		if exists {
			t.Error("the endpoint exists")
		}
	case <-time.After(abandonedInterval - time.Second):
		t.Error("the plugin was not called")
	}
}

// TestFailedDeleteEndpointIsRepeated by the adapter, because Docker does not. Its
// interface may exist if Join failed.
func TestFailedDeleteEndpointIsRepeated(t *testing.T) {
	for _, restart := range []bool{false, true} {
		m, s := withStore(t)
		m.mustCall(t, "CreateEndpoint")
		m.addLink(t, endpointLink)
		m.addLink(t, otherLink)
		s.onBefore(killAfter("DeleteEndpoint"))
		if w := m.post("/NetworkDriver.DeleteEndpoint", creation); w.Code == http.StatusOK {
			t.Fatal(w.Body)
		}
		if restart {
			m.Adapter = New(m.Host, m.log)
		}
		s.onBefore(func(string) {})
		m.wantEndpoint(t, s, "at the next search", abandonedInterval, false, false)
	}
}

func TestRefusedCreateEndpointLeavesNoRecord(t *testing.T) {
	m := newMachine(t)
	m.setUp(t)
	m.addLink(t, "lo")
	p := m.startPlugin(t, answers(http.StatusInternalServerError, `{"Err":"resource does not exist: IPPool(x)"}`))
	m.post("/NetworkDriver.CreateEndpoint", creation)
	if err := m.removeAbandoned(t.Context(), time.Now()); err != nil || len(m.records(t)) > 0 {
		t.Errorf("%v, records %q", err, m.records(t))
	}
	if got := p.called(); len(got) != 2 || got[1] != `{"EndpointID":"`+dockerEndpoint+`"}` {
		t.Errorf("the plugin was called with %q", got)
	}
}

func TestCallThatDidNotReachThePluginLeavesNoRecord(t *testing.T) {
	m := newMachine(t)
	m.setUp(t)
	m.limit(10*time.Millisecond, time.Second)
	m.post("/NetworkDriver.CreateEndpoint", creation)
	if got := m.records(t); len(got) > 0 {
		t.Errorf("records %q", got)
	}
}

func TestEndpointsInUseAreKept(t *testing.T) {
	const long = 1000 * time.Hour
	m, s := withStore(t)
	s.onBefore(func(method string) { m.wantEndpoint(t, s, "during "+method, long, method != "CreateEndpoint", true) })
	m.mustCall(t, "CreateEndpoint")
	m.wantEndpoint(t, s, "before Join", joinLimit-time.Second, true, true)
	m.mustCall(t, "Join")
	m.addLink(t, endpointLink)
	s.onBefore(func(string) {})
	m.wantEndpoint(t, s, "with an interface", long, true, true)
	m.Adapter = New(m.Host, m.log)
	m.wantEndpoint(t, s, "after a restart", long, true, true)
	s.onBefore(func(method string) {
		s.onBefore(func(string) {})
		m.wantEndpoint(t, s, "during "+method, 2*long, true, true)
	})
	m.removeLinks(t, endpointLink)
	m.mustCall(t, "DeleteEndpoint")
	if s.exists() || len(m.records(t)) > 0 {
		t.Errorf("records %q", m.records(t))
	}
}

// The interface in a container counts for more than the record.
func TestEndpointOfAContainerIsKept(t *testing.T) {
	m, s := withStore(t)
	s.apply("CreateEndpoint", dockerEndpoint)
	m.endpoints.creating(dockerEndpoint)
	m.addLink(t, endpointLink)
	m.Adapter = New(m.Host, m.log)
	m.wantEndpoint(t, s, "with an interface", time.Hour, true, true)
	m.removeLinks(t, endpointLink)
	m.wantEndpoint(t, s, "too early", time.Hour+unlinkLimit-time.Second, true, true)
	m.wantEndpoint(t, s, "without its interface", time.Hour+unlinkLimit+time.Second, false, false)
}

// TestContainersThatDockerLost removes what a killed Docker leaves.
func TestContainersThatDockerLost(t *testing.T) {
	t.Run("the container has ended", func(t *testing.T) {
		m, s := withStore(t)
		m.mustCall(t, "CreateEndpoint")
		m.addLink(t, endpointLink)
		m.wantEndpoint(t, s, "with an interface", 0, true, true)
		m.removeLinks(t, endpointLink)
		m.wantEndpoint(t, s, "too early", unlinkLimit-time.Second, true, true)
		m.wantEndpoint(t, s, "without its interface", unlinkLimit+time.Second, false, false)
		if want := "removed the endpoint " + dockerEndpoint + ", which no container uses"; m.logged() != want {
			t.Errorf("logged %q, want %q", m.logged(), want)
		}
	})
	t.Run("the container has ended soon", func(t *testing.T) {
		m, s := withStore(t)
		m.mustCall(t, "CreateEndpoint")
		m.mustCall(t, "Join")
		m.wantEndpoint(t, s, "too early", unlinkLimit-time.Second, true, true)
		m.wantEndpoint(t, s, "without its interface", unlinkLimit+time.Second, false, false)
	})
	t.Run("it never joined", func(t *testing.T) {
		m, s := withStore(t)
		m.mustCall(t, "CreateEndpoint")
		m.Adapter = New(m.Host, m.log)
		m.wantEndpoint(t, s, "too early", joinLimit-time.Second, true, true)
		m.wantEndpoint(t, s, "without an interface", joinLimit+time.Second, false, false)
	})
	t.Run("its interface did not reach the container", func(t *testing.T) {
		m, s := withStore(t)
		m.mustCall(t, "CreateEndpoint")
		m.mustCall(t, "Join")
		m.addLink(t, endpointLink)
		m.addLink(t, otherLink)
		m.wantEndpoint(t, s, "too early", joinLimit-time.Second, true, true)
		m.wantEndpoint(t, s, "on the host", joinLimit+time.Second, false, false)
		if !slices.Equal(m.links.removed, []string{endpointLink}) {
			t.Errorf("removed links %q", m.links.removed)
		}
	})
}

func TestFailedRemovalIsRepeated(t *testing.T) {
	m, s := withStore(t)
	s.onAfter(killAfter("CreateEndpoint"))
	m.post("/NetworkDriver.CreateEndpoint", creation)
	s.refuseWith("etcdserver: request timed out")
	err := m.removeAbandoned(t.Context(), time.Now())
	if want := "the plugin cannot delete the endpoint c0ffee012345: etcdserver: request timed out"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	s.refuseWith("")
	m.wantEndpoint(t, s, "later", abandonedInterval, false, false)
}

// TestNothingIsRemoved without a list of interfaces, and without the plugin.
func TestNothingIsRemoved(t *testing.T) {
	m, s := withStore(t)
	m.mustCall(t, "CreateEndpoint")
	m.removeLinks(t, "lo")
	if err := m.removeAbandoned(t.Context(), time.Now().Add(time.Hour)); err == nil || !s.exists() {
		t.Errorf("without a list of interfaces: %v", err)
	}
	m.addLink(t, "lo")
	m.client.Transport = pluginFunc(func(*http.Request) (*http.Response, error) { return nil, errors.New("no") })
	if err := m.removeAbandoned(t.Context(), time.Now().Add(time.Hour)); err == nil || len(m.records(t)) != 1 {
		t.Errorf("without the plugin: %v, records %q", err, m.records(t))
	}
}

// A failure that lasts is logged once, and again after a success.
func TestFailedRemovalsAreLoggedOnce(t *testing.T) {
	m := newMachine(t)
	m.endpoints.all[dockerEndpoint] = &endpoint{}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan struct{})
	go func() { defer close(ended); m.watchEndpoints(ctx) }()
	for range 3 { // each is received after a search
		m.wake <- struct{}{}
	}
	cancel()
	<-ended
	if got := strings.Count(m.logged(), "cannot remove the endpoints that no container uses, will try again: "); got != 1 {
		t.Errorf("logged %d times:\n%s", got, m.logged())
	}
}

func TestRecordsAreBounded(t *testing.T) {
	m, s := withStore(t)
	for n := range maxEndpoints {
		m.endpoints.all[fmt.Sprintf("%064x", n)] = &endpoint{used: true, idle: time.Now()}
	}
	m.mustCall(t, "CreateEndpoint")
	if got := m.records(t); len(got) > 0 || !s.exists() {
		t.Errorf("records %q", got)
	}
}

func TestEndpointsAreListed(t *testing.T) {
	m := newMachine(t)
	if got, err := Endpoints(m.Host); err != nil || len(got) > 0 {
		t.Errorf("without records: %v %v", got, err)
	}
	other := strings.Repeat("1", 64)
	m.endpoints.creating(dockerEndpoint)
	m.endpoints.creating(other)
	m.endpoints.created(other)
	got, err := Endpoints(m.Host)
	if err != nil || len(got) != 2 || !got[dockerEndpoint] || !got[other] {
		t.Errorf("%v %v", got, err)
	}
	if d := New(m.Host, m.log).endpoints.all; !d[other].used || d[dockerEndpoint].used {
		t.Errorf("loaded %+v and %+v", d[other], d[dockerEndpoint])
	}
}
