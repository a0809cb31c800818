package report_test

import (
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/report"
)

func TestSystemdGetsTheProgressOfTheRun(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", socket)

	n := report.NewNotifier(stages)
	send := func(e engine.Event, second int) {
		e.Stage, e.Since, e.Time = "node", epoch, epoch.Add(time.Duration(second)*time.Second)
		n.Event(e)
	}
	send(engine.Event{Kind: engine.Started}, 0)
	send(engine.Event{Kind: engine.Progressed, Message: "fetching image", Done: 40, Total: 100}, 1)
	send(engine.Event{Kind: engine.Progressed, Message: "fetching image", Done: 41, Total: 100}, 1)
	send(engine.Event{Kind: engine.Waiting, Message: "etcd at http://10.0.0.1:2379\nX=1"}, 35)
	send(engine.Event{Kind: engine.Waiting, Message: "etcd", Err: errors.New("connection\nrefused"), Next: epoch.Add(40 * time.Second)}, 36)
	send(engine.Event{Kind: engine.Failed, Err: errors.New("no")}, 36)
	n.Send("end")

	var got []string
	buf := make([]byte, 4096)
	for {
		size, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(buf[:size]))
		if got[len(got)-1] == "STATUS=end" {
			break
		}
	}
	want := []string{
		"STATUS=3/3 node: checking",
		"STATUS=3/3 node: fetching image (40 %)",
		"STATUS=3/3 node: waiting for etcd at http://10.0.0.1:2379 X=1 since 00:00:00 UTC (35s)",
		"STATUS=3/3 node: waiting for etcd since 00:00:00 UTC (36s): connection refused; next attempt in 4s",
		"STATUS=3/3 node: failed: no",
		"STATUS=end",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
