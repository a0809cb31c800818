//go:build lab

package nslab

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/projecteru2/firstboot/test/lab/parts"
)

const (
	document   = "../../docs/networks.md"
	tableStart = "<!-- written by test/nslab -->\n"
	tableEnd   = "<!-- end -->\n"
	// updateVariable makes the test write the table to the document.
	updateVariable = "NSLAB_UPDATE"
)

// outcome is what a pair of Docker and etcd passed.
type outcome int

const (
	notRun outcome = iota
	ran
	survived // also a power cut
)

func (o outcome) String() string {
	return [...]string{"not run", "pings only", "pings, also after a power cut"}[o]
}

// table collects what ran.
type table struct {
	mu   sync.Mutex
	rows map[string]map[parts.EtcdVersion]outcome
}

func newTable() *table { return &table{rows: map[string]map[parts.EtcdVersion]outcome{}} }

func rowOf(version parts.DockerVersion, scope Scope) string {
	if scope == Global {
		return string(version) + ", global network"
	}
	return string(version) + ", local network"
}

// add records an outcome of all hosts of a lab.
func (table *table) add(l *Lab, o outcome) {
	table.mu.Lock()
	defer table.mu.Unlock()
	for _, h := range l.Hosts {
		row := rowOf(h.Docker.Version, Scope(h.global))
		if table.rows[row] == nil {
			table.rows[row] = map[parts.EtcdVersion]outcome{}
		}
		table.rows[row][l.version] = o
	}
}

// text returns the table in Markdown.
func (table *table) text() string {
	var b strings.Builder
	b.WriteString("| Docker |")
	for _, v := range parts.EtcdVersions() {
		fmt.Fprintf(&b, " %s |", etcdName(v))
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(parts.EtcdVersions())) + "\n")
	rows := []string{rowOf(parts.Docker20, Global)}
	for _, v := range parts.DockerVersions() {
		rows = append(rows, rowOf(v, Local))
	}
	for _, row := range rows {
		fmt.Fprintf(&b, "| %s |", row)
		for _, v := range parts.EtcdVersions() {
			fmt.Fprintf(&b, " %s |", table.rows[row][v])
		}
		b.WriteString("\n")
	}
	b.WriteString("\nNot run: Docker 19.03, 23 to 25, 27 and 28: the lab has no packages of them.\n" +
		"Docker 20.10 with a global network needs etcd's v2 API, which only etcd 3.4 serves here.\n")
	return b.String()
}

func etcdName(v parts.EtcdVersion) string {
	switch v {
	case parts.Etcd34:
		return "etcd 3.4 with the v2 API"
	case parts.Etcd37:
		return "etcd 3.7 with client certificates and users"
	}
	return "etcd " + string(v) + " without the v2 API"
}

// compare compares the table with the one in the document, or writes it there.
func (table *table) compare(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), tableStart)
	old, after, ended := strings.Cut(rest, tableEnd)
	if !found || !ended {
		t.Fatalf("%s has no table between %q and %q", document, tableStart, tableEnd)
	}
	if os.Getenv(updateVariable) != "" {
		if err := os.WriteFile(document, []byte(before+tableStart+table.text()+tableEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if old != table.text() {
		t.Errorf("%s differs from what ran (write it with %s=1 test/all.sh nslab):\n%s", document, updateVariable, table.text())
	}
}

func TestTableNamesWhatDidNotRun(t *testing.T) {
	done := newTable()
	if text := done.text(); !strings.Contains(text, "| 29, local network | not run | not run | not run |") {
		t.Errorf("an empty table:\n%s", text)
	}
	done.rows[rowOf(parts.Docker29, Local)] = map[parts.EtcdVersion]outcome{parts.Etcd35: survived}
	lines := strings.Split(done.text(), "\n")
	if !slices.Contains(lines, "| 29, local network | not run | pings, also after a power cut | not run |") {
		t.Errorf("after one pair ran:\n%s", done.text())
	}
}
