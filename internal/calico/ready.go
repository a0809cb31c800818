package calico

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/text"
)

const (
	// felixHealthPort is Felix's default for HealthPort, on localhost.
	felixHealthPort = 9099
	// birdSocket is BIRD's control socket, which the container shares with its host.
	birdSocket = "/var/run/calico/bird.ctl"
	// queryTimeout bounds one query of Felix or BIRD.
	queryTimeout = 10 * time.Second
)

// Ready returns an error unless Felix is ready and BIRD is live, by calico-node's
// own command. It starts a program of 70 MB in the container. It does not use
// -bird-ready, which at first requires all peers to be Established: one stale
// Node of another machine would then fail every join.
func Ready(ctx context.Context, d *dockerd.Client) error {
	status, out, err := d.Exec(ctx, execTimeout, NodeContainer, []string{"calico-node", "-felix-ready", "-bird-live"})
	if err != nil {
		return err
	}
	if status != 0 {
		return fmt.Errorf("not ready: %s", lastLine(out))
	}
	return nil
}

// Responds returns an error unless Felix reports that it is ready and BIRD answers.
// It starts no program, so it suits repeated queries. It does not check confd, as
// Ready does: see ConfdRuns.
func Responds(ctx context.Context, h *host.Host, c *config.Config) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	resp, err := h.LocalServer(healthPort(c)).Do(ctx, http.MethodGet, "/readiness", nil, nil, "")
	if err != nil {
		return fmt.Errorf("felix does not respond: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("felix is not ready: status %d", resp.StatusCode)
	}
	parts, err := io.ReadAll(io.LimitReader(resp.Body, maxHealthReply))
	if err != nil {
		return fmt.Errorf("felix does not respond: %w", err)
	}
	if lacksDataplane(string(parts)) {
		return ErrNoDataplane
	}
	_, err = queryBIRD(ctx, h, "show status")
	return err
}

// maxHealthReply bounds what is read of Felix's reply, in bytes. Measured: 700.
const maxHealthReply = 64 << 10

// ErrNoDataplane means that Felix has not started its data plane, which programs the
// kernel. For some tenths of a second Felix then reports that it is ready
// (felix/daemon/daemon.go of v3.23.0), also to calico-node's own command. A Felix that
// uses another program as its data plane never lists one.
var ErrNoDataplane = errors.New("felix is not ready: it has not started its data plane")

// lacksDataplane reports whether Felix lists its parts, and the data plane is not one of
// them. Some versions list no parts.
func lacksDataplane(parts string) bool {
	return strings.Contains(parts, "felix-startup") && !strings.Contains(parts, "int_dataplane")
}

// confdState is the file in which calico-node's supervisor keeps confd's state (runsv(8)).
const confdState = "/etc/service/enabled/confd/supervise/stat"

// ConfdRuns reports whether confd, which writes BIRD's configuration, runs in the
// container whose first process is pid. Like Responds, it starts no program.
func ConfdRuns(h *host.Host, pid int) bool {
	state, err := h.ReadFile(fmt.Sprintf("/proc/%d/root%s", pid, confdState))
	return err == nil && strings.HasPrefix(string(state), "run")
}

// healthPort returns the port of Felix's health server. Felix accepts its variables
// in upper and lower case.
func healthPort(c *config.Config) uint16 {
	for key, value := range c.Node.Environment {
		if port, err := strconv.ParseUint(value.Reveal(), 10, 16); strings.EqualFold(key, "FELIX_HEALTHPORT") && err == nil {
			return uint16(port)
		}
	}
	return felixHealthPort
}

// maxBIRDReply bounds a reply of BIRD, in bytes. A line describes one session.
const maxBIRDReply = 1 << 20

// queryBIRD sends a command to BIRD and returns the lines of its reply.
func queryBIRD(ctx context.Context, h *host.Host, command string) (string, error) {
	conn, err := h.DialSocket(ctx, birdSocket)
	if err != nil {
		return "", fmt.Errorf("bird does not respond: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := fmt.Fprintf(conn, "%s\n", command); err != nil {
		return "", fmt.Errorf("bird does not respond: %w", err)
	}
	return readReply(conn)
}

// readReply reads the lines of BIRD's reply. Each begins with a code of four digits
// and a minus, or with a space if the code is that of the line before. A code and a
// space begin the last line; codes from 8000 are errors.
func readReply(from io.Reader) (string, error) {
	var reply strings.Builder
	lines := bufio.NewScanner(from)
	for lines.Scan() && reply.Len() < maxBIRDReply {
		line := lines.Text()
		if line == "0000" {
			return reply.String(), nil
		}
		if len(line) < 5 || line[0] == ' ' {
			reply.WriteString(strings.TrimSpace(line) + "\n")
			continue
		}
		code, rest := line[:4], line[5:]
		switch {
		case code >= "8000":
			return "", fmt.Errorf("bird: %s", text.Line(rest))
		case code == "0001": // the greeting, which ends with a space but no reply
			continue
		}
		reply.WriteString(rest + "\n")
		if line[4] == ' ' {
			return reply.String(), nil
		}
	}
	return "", fmt.Errorf("bird closed the connection before the end of its reply")
}
