package machine

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"time"
)

// commandTime bounds one command of QEMU, which answers in milliseconds.
const commandTime = 30 * time.Second

// qmp is a connection that speaks QEMU's machine protocol (QEMU's manual,
// interop/qmp-spec): one JSON object a line.
type qmp struct {
	conn  net.Conn
	lines *bufio.Scanner
}

// newQMP takes the greeting and ends the negotiation of capabilities, without
// which QEMU takes no command.
func newQMP(ctx context.Context, conn net.Conn) (*qmp, error) {
	q := &qmp{conn: conn, lines: bufio.NewScanner(conn)}
	if err := q.run(ctx, "qmp_capabilities"); err != nil {
		conn.Close()
		return nil, err
	}
	return q, nil
}

// run runs one command, and passes over greeting and events.
func (q *qmp) run(ctx context.Context, command string) error {
	end := time.Now().Add(commandTime)
	if given, ok := ctx.Deadline(); ok && given.Before(end) {
		end = given
	}
	if err := q.conn.SetDeadline(end); err != nil {
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
			return fmt.Errorf("qemu says %q: %w", q.lines.Text(), err)
		}
		switch {
		case answer.Error != nil:
			return fmt.Errorf("qemu refuses %s: %s", command, answer.Error.Desc)
		case answer.Return != nil:
			return nil
		}
	}
	if err := q.lines.Err(); err != nil {
		return fmt.Errorf("qemu does not answer %s: %w", command, err)
	}
	return fmt.Errorf("qemu hung up during %s", command)
}

// Close hangs up; the machine goes on.
func (q *qmp) Close() error { return q.conn.Close() }
