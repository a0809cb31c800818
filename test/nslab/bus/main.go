// Command bus answers the queries of systemd's units that firstboot makes on a host
// of the namespace lab, which has no systemd. Only wait-plugin asks, before Docker
// starts. So every unit is "activating", as docker.service is at that time.
package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/godbus/dbus/v5"
)

// socket is systemd's private socket.
const socket = "/run/systemd/private"

func main() {
	fmt.Fprintln(os.Stderr, "bus:", listen())
	os.Exit(1)
}

// listen answers until accepting a connection fails.
func listen() error {
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			if err := serve(conn); err != nil {
				fmt.Fprintln(os.Stderr, "bus:", err)
			}
		}()
	}
}

// serve authenticates a client, and then answers its calls until it hangs up.
func serve(conn net.Conn) error {
	in := bufio.NewReader(conn)
	if err := authenticate(in, conn); err != nil {
		return err
	}
	for {
		call, err := dbus.DecodeMessage(in)
		if err != nil {
			return nil //nolint:nilerr // the client hung up
		}
		if call.Type != dbus.TypeMethodCall || call.Flags&dbus.FlagNoReplyExpected != 0 {
			continue
		}
		if err := reply(conn, call); err != nil {
			return err
		}
	}
}

// authenticate accepts every client: only root can connect.
func authenticate(in *bufio.Reader, out net.Conn) error {
	if _, err := in.ReadByte(); err != nil { // a zero byte
		return err
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		answer := "ERROR"
		switch command := strings.TrimSpace(line); {
		case command == "BEGIN":
			return nil
		case command == "AUTH":
			answer = "REJECTED EXTERNAL"
		case strings.HasPrefix(command, "AUTH EXTERNAL"):
			answer = "OK 00000000000000000000000000000001"
		}
		if _, err := fmt.Fprintf(out, "%s\r\n", answer); err != nil {
			return err
		}
	}
}

// reply answers a call with a unit's properties.
func reply(out net.Conn, call *dbus.Message) error {
	properties := map[string]dbus.Variant{
		"LoadState": dbus.MakeVariant("loaded"), "ActiveState": dbus.MakeVariant("activating"),
	}
	answer := &dbus.Message{
		Type: dbus.TypeMethodReply,
		Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldReplySerial: dbus.MakeVariant(call.Serial()),
			dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf(properties)),
		},
		Body: []any{properties},
	}
	return answer.EncodeTo(out, binary.LittleEndian)
}
