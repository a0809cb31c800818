package stages_test

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"

	"github.com/projecteru2/firstboot/internal/adapter"
	"github.com/projecteru2/firstboot/internal/host"
)

// openAdapter makes the socket that Docker calls, as firstboot-adapter.socket does.
// It replaces one that the plugin made.
func (w *fakeSystem) openAdapter(string) error {
	if err := os.Remove(w.file(adapter.Socket)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	w.adapterSocket = listen(w.t, w.file(adapter.Socket))
	if socket, ok := w.adapterSocket.(*net.UnixListener); ok {
		socket.SetUnlinkOnClose(false) // systemd removes it only with RemoveOnStop=
	}
	return nil
}

func (w *fakeSystem) closeAdapter() {
	_ = w.adapterSocket.Close()
}

// beginAdapter runs the real adapter on a duplicate of the socket.
func (w *fakeSystem) beginAdapter(string) error {
	socket, ok := w.adapterSocket.(*net.UnixListener)
	if !ok {
		return errors.New("no socket")
	}
	file, err := socket.File()
	if err != nil {
		return err
	}
	defer file.Close()
	_ = syscall.SetNonblock(int(file.Fd()), true)
	listener, err := net.FileListener(file)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = adapter.New(host.New(w.root), func(string) {}).Serve(ctx, listener)
	}()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopAdapter = func() {
		cancel()
		<-done
	}
	return nil
}

func (w *fakeSystem) endAdapter() {
	w.mu.Lock()
	stop := w.stopAdapter
	w.stopAdapter = nil
	w.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// adapterRuns reports whether Docker's calls reach the adapter.
func (w *fakeSystem) adapterRuns() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stopAdapter != nil
}

// networkID is the ID under which the plugin knows a Docker network: the adapter
// translates that of a local one.
func (w *fakeSystem) networkID(id, scope string) string {
	if scope != "local" {
		return id
	}
	network, err := adapter.Load(host.New(w.root))
	if err != nil {
		return err.Error()
	}
	return network.ID
}
