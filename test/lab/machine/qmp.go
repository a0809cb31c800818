package machine

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"time"
)

// commandTimeout limits one QMP command. QEMU answers in milliseconds.
const commandTimeout = 30 * time.Second

// qmp is a connection with the QEMU Machine Protocol (QEMU's manual,
// interop/qmp-spec): one JSON object per line.
type qmp struct {
	conn  net.Conn
	lines *bufio.Scanner
}

// newQMP negotiates capabilities, which QEMU requires before other commands.
func newQMP(ctx context.Context, conn net.Conn) (*qmp, error) {
	q := &qmp{conn: conn, lines: bufio.NewScanner(conn)}
	if err := q.run(ctx, "qmp_capabilities"); err != nil {
		conn.Close()
		return nil, err
	}
	return q, nil
}

// run runs one command. It ignores the greeting and events.
func (q *qmp) run(ctx context.Context, command string) error {
	deadline := time.Now().Add(commandTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := q.conn.SetDeadline(deadline); err != nil {
		return err
	}
	if err := json.NewEncoder(q.conn).Encode(map[string]string{"execute": command}); err != nil {
		return err
	}
	for q.lines.Scan() {
		var answer struct {
			Return *json.RawMessage `json:"return"`
			Error  *struct {
				Desc string `json:"desc"`
			} `json:"error"`
		}
		if err := json.Unmarshal(q.lines.Bytes(), &answer); err != nil {
			return fmt.Errorf("cannot parse qemu's answer %q: %w", q.lines.Text(), err)
		}
		switch {
		case answer.Error != nil:
			return fmt.Errorf("qemu refused %s: %s", command, answer.Error.Desc)
		case answer.Return != nil:
			return nil
		}
	}
	if err := q.lines.Err(); err != nil {
		return fmt.Errorf("cannot read qemu's answer to %s: %w", command, err)
	}
	return fmt.Errorf("qemu closed the connection during %s", command)
}

// Close closes the connection. The machine continues to run.
func (q *qmp) Close() error { return q.conn.Close() }
