//go:build lab

package nspawn

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/config"
	machine "github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
)

// reported is a configuration whose report.url is a port of the machine itself.
const reported = "report: {url: \"http://127.0.0.1:8080/done\"}\n"

// The units of a web server that accepts every report and keeps it.
const (
	receiverSocket = "[Socket]\nListenStream=127.0.0.1:8080\nAccept=yes\n"
	receiverUnit   = "[Service]\nStandardInput=socket\nExecStart=/bin/sh -c 'timeout 1 cat >>/srv/reports; printf \"HTTP/1.1 204 No Content\\\\r\\\\n\\\\r\\\\n\"'\n"
)

// testReport: a server that does not answer delays neither the end of the run nor
// the boot.
func testReport(t *testing.T, e *Environment) {
	refused := strings.Replace(goodConfig, "10.213.0.0/16", "172.17.0.0/16", 1) + reported
	h := bootHost(t, e, Options{MachineID: thisMachine + "\n", Enabled: withUnits(), Without: withoutCloudInit(), Files: configured(refused)})
	h.waitForState("firstboot.service", "failed")
	h.waitForState("firstboot-report.service", "active")
	h.waitForState("multi-user.target", "active")
	h.waitForJobs()
	h.wantExit(4, []string{"firstboot", "status"}, "refused")
	h.contains(h.run("stat", "-c", "%a", state.ReportPath), "600")
	h.wantProperty("firstboot-report.service", "UnitFileState", "static")
	h.waitFor("a failed attempt", func() (string, bool) {
		seen := h.Journal(h.ctx, "firstboot-report.service")
		return seen, strings.Contains(seen, "cannot report to http://127.0.0.1:8080")
	})
}

// testLeftReport: the boot of a complete host delivers the report that an earlier
// boot could not deliver.
func testLeftReport(t *testing.T, e *Environment) {
	h := newHost(t, e, Options{
		MachineID: thisMachine + "\n", Enabled: withUnits(), Without: withoutCloudInit(),
		Files: append(configured(goodConfig+reported),
			File{Path: "/etc/systemd/system/receiver.socket", Data: receiverSocket},
			File{Path: "/etc/systemd/system/receiver@.service", Data: receiverUnit}),
	})
	h.writeCompleteState(thisMachine)
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(goodConfig+reported), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := config.Load(h.ctx, config.Options{Files: []string{file}})
	if err != nil {
		t.Fatal(err)
	}
	var saved bytes.Buffer
	if err := loaded.Save(&saved); err != nil {
		t.Fatal(err)
	}
	disk := machine.New(h.Disk())
	if err := disk.WriteFile(state.EffectivePath, saved.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	left := state.Report{Machine: state.Machine{MachineID: thisMachine}, State: state.Complete, Written: time.Now().UTC(), Status: []byte(`{"state":"complete"}`)}
	if err := left.Save(disk); err != nil {
		t.Fatal(err)
	}

	h.boot()
	h.waitForState("firstboot.service", "active")
	h.waitForState("firstboot-report.service", "active")
	h.waitForJobs()
	h.run("systemctl", "start", "receiver.socket")
	h.waitForState("firstboot-report.service", "inactive")
	h.contains(h.readFile("/srv/reports"), "POST /done HTTP/1.1", `{"state":"complete"}`)
	if h.readFile(state.ReportPath) != "" {
		t.Error("the delivered report is left")
	}
	h.run("systemctl", "restart", "firstboot.service")
	h.wantProperty("firstboot-report.service", "ActiveState", "inactive")
}
