package stages

import (
	"slices"
	"strings"
	"testing"
	"unicode"
)

func TestErrorLinesStateWhyAUnitFailed(t *testing.T) {
	const log = `time="2026-11-24T18:00:00Z" level=info msg="Starting up"
failed to load listeners: no sockets found via socket activation
docker.service: Main process exited, code=exited, status=1/FAILURE
docker.service: Failed with result 'exit-code'.
Failed to start docker.service - Docker Application Container Engine.
unable to configure the Docker daemon with file /etc/docker/daemon.json: invalid character 'x'
unable to configure the Docker daemon with file /etc/docker/daemon.json: invalid character 'x'
docker.service: Failed with result 'exit-code'.
`
	want := []string{
		"failed to load listeners: no sockets found via socket activation",
		"unable to configure the Docker daemon with file /etc/docker/daemon.json: invalid character 'x'",
	}
	if got := errorLines(log, "docker.service"); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if got := errorLines("Starting up\nListening\n", "docker.service"); got != nil {
		t.Errorf("got %q", got)
	}
}

// FuzzErrorLines verifies that the log of a unit adds a bounded text without
// control characters.
func FuzzErrorLines(f *testing.F) {
	f.Add("error: \x1b[2J\x00", "docker.service")
	f.Add(strings.Repeat("fatal ", 10000)+"\nerror\r\nerror", "docker.service")
	f.Add("docker.service: error\nFailed to start x", "docker.service")
	f.Fuzz(func(t *testing.T, log, unit string) {
		lines := errorLines(log, unit)
		if len(lines) > unitLogLines {
			t.Errorf("%d lines", len(lines))
		}
		for _, line := range lines {
			if len(line) > 310 || strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%q", line)
			}
		}
	})
}
