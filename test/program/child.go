package program

import (
	"os/exec"
	"runtime"
	"syscall"
)

// Start starts a command whose process receives a signal if this process ends,
// even by SIGKILL. The channel is closed when the command has ended.
//
// The kernel sends the signal when the thread that started the process ends. Other
// tests end threads that have their own namespaces, so the thread is reserved for
// the command (https://go.dev/issue/27505).
func Start(cmd *exec.Cmd, whenParentEnds syscall.Signal) (ended <-chan struct{}, err error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = whenParentEnds
	started, done := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // the result is in cmd.ProcessState
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return done, nil
}
