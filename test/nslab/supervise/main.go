// Command supervise runs a program on a host of the namespace lab, like a systemd
// service with Restart=always and, with -listen, a socket unit: the socket exists
// before the program starts and survives it.
//
//	supervise -name NAME [-listen PATH] [-pre SCRIPT] PROGRAM [ARG...]
//
// Until SIGTERM, which it passes on, it restarts the program whenever it exits.
package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

const (
	// runDir holds NAME.pid: the program's PID.
	runDir = "/run/lab"
	// logDir holds NAME.log: the program's output.
	logDir = "/var/log/lab"
	// restartDelay is systemd's default of RestartSec.
	restartDelay = 100 * time.Millisecond
	// activate makes this program execute the arguments that follow as a program
	// with an activated socket. LISTEN_PID must be the program's PID, which is only
	// known to its own process.
	activate = "-activate"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == activate {
		fail(execActivated(os.Args[2:]))
	}
	s := service{}
	flag.StringVar(&s.name, "name", "", "name of the service")
	flag.StringVar(&s.listen, "listen", "", "path of a Unix socket to pass to the program")
	flag.StringVar(&s.pre, "pre", "", "shell script to run before each start; the program starts only if it succeeds")
	flag.Parse()
	s.args = flag.Args()
	if s.name == "" || len(s.args) == 0 {
		flag.Usage()
		os.Exit(2)
	}
	fail(s.run())
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "supervise:", err)
		os.Exit(1)
	}
}

// execActivated replaces this process by the program.
func execActivated(args []string) error {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	environment := append(os.Environ(), "LISTEN_FDS=1", "LISTEN_PID="+strconv.Itoa(os.Getpid()))
	return syscall.Exec(path, args, environment)
}

// service is a program that runs until SIGTERM.
type service struct {
	name, listen, pre string
	args              []string

	socket *os.File
	log    *os.File
}

func (s *service) run() error {
	err := errors.Join(os.MkdirAll(runDir, 0o755), os.MkdirAll(logDir, 0o755))
	if err != nil {
		return err
	}
	if s.log, err = os.OpenFile(filepath.Join(logDir, s.name+".log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644); err != nil {
		return err
	}
	if s.listen != "" {
		if s.socket, err = listen(s.listen); err != nil {
			return err
		}
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	for {
		if stopped := s.once(stop); stopped {
			return nil
		}
		select {
		case <-stop:
			return nil
		case <-time.After(restartDelay):
		}
	}
}

// listen creates the socket, as SocketMode=0600.
func listen(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, err
	}
	return listener.File()
}

// once runs the program until it exits, and reports whether it was stopped.
func (s *service) once(stop <-chan os.Signal) (stopped bool) {
	if s.pre != "" {
		pre := exec.Command("sh", "-euc", s.pre)
		pre.Stdout, pre.Stderr = s.log, s.log
		if err := pre.Run(); err != nil {
			fmt.Fprintf(s.log, "supervise: %s: before the start: %v\n", s.name, err)
			return false
		}
	}
	cmd := s.command()
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(s.log, "supervise: %s: %v\n", s.name, err)
		return false
	}
	pidFile := filepath.Join(runDir, s.name+".pid")
	if err := os.WriteFile(pidFile, []byte(strconv.Itoa(cmd.Process.Pid)), 0o644); err != nil {
		fmt.Fprintf(s.log, "supervise: %s: %v\n", s.name, err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		fmt.Fprintf(s.log, "supervise: %s ended: %v\n", s.name, cmd.Wait())
	}()
	select {
	case <-ended:
		return false
	case <-stop:
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		return true
	}
}

func (s *service) command() *exec.Cmd {
	args := s.args
	if s.socket != nil {
		args = append([]string{"/proc/self/exe", activate}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = s.log, s.log
	if s.socket != nil {
		cmd.ExtraFiles = []*os.File{s.socket} // file descriptor 3, as systemd's
	}
	return cmd
}
