package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

// files are the state files by their paths.
func files() map[string]func() record {
	return map[string]func() record{
		JournalPath:  func() record { return new(Journal) },
		MarkerPath:   func() record { return new(Marker) },
		LeftPath:     func() record { return new(Departure) },
		ManifestPath: func() record { return new(Manifest) },
		ReportPath:   func() record { return new(Report) },
	}
}

// FuzzStateFile: a state file is damaged, from a newer firstboot, or can be
// written again as it was read.
func FuzzStateFile(f *testing.F) {
	paths := []string{JournalPath, MarkerPath, LeftPath, ManifestPath, ReportPath}
	for _, s := range []string{
		`{"schema": 1, "state": "running", "machine": {"machine_id": "aaaa"}, "stages": [{"name": "node", "state": "failed", "error": "x", "differences": [{"what": "a"}]}], "notes": {"installed": {"rpm": {"id": "x"}}}}`,
		`{"schema": 1, "machine": {"product_uuid": "u"}, "finished": "2025-01-01T00:00:00Z", "previous": {"previous": {}}}`,
		`{"schema": 1, "files": {"/etc/a": "link:b"}}`, `{"schema": 1, "status": {"a": 1}, "written": "2025-01-01T00:00:00Z"}`,
		`{"schema": 2}`, `{"schema": 0}`, `{"schema": 1e9}`, `{"schema": 1`, "null", "[]", "", `{"schema": 1, "machine": {"machine_id": ""}}`, `{"Schema":1,"schema":2}`,
		`{"schema": 1, "machine": {"machine_id": "0"}, "notes": {"installed": {}}}`,
	} {
		for i := range paths {
			f.Add(i, []byte(s))
		}
	}
	makers := files()
	f.Fuzz(func(t *testing.T, which int, data []byte) {
		if which < 0 {
			which = -(which + 1)
		}
		path := paths[which%len(paths)]
		v := makers[path]()
		err := decode(path, data, v)
		var damaged *DamagedError
		var newer *NewerError
		if err != nil {
			if !errors.As(err, &damaged) && !errors.As(err, &newer) {
				t.Errorf("%s: %v", path, err)
			}
			return
		}
		if j, ok := v.(*Journal); ok {
			j.bound()
		}
		written, err := json.Marshal(v)
		if err != nil {
			t.Fatalf("%s cannot be written: %v", path, err)
		}
		again := makers[path]()
		if err := decode(path, written, again); err != nil {
			t.Fatalf("%s: %v\n%s", path, err, written)
		}
		if j, ok := again.(*Journal); ok {
			j.bound()
		}
		if rewritten, err := json.Marshal(again); err != nil || !bytes.Equal(written, rewritten) {
			t.Errorf("%s: %v\n%s\n%s", path, err, written, rewritten)
		}
	})
}

// FuzzIdentity: an ID is safe as a part of a file name, and two machines are the
// same in both directions.
func FuzzIdentity(f *testing.F) {
	f.Add("0123456789abcdef0123456789abcdef", "4c4c4544-0042-3010-8054-b4c04f564d32")
	f.Add("../../etc", "")
	f.Add("\xff\x00", strings.Repeat("a", 100))
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, id := range []string{boundedID(a), boundedID(b)} {
			if len(id) > maxID || strings.ContainsAny(id, "/.\x00\n ") || !utf8.ValidString(id) || boundedID(id) != id {
				t.Errorf("%q", id)
			}
		}
		this, that := Machine{MachineID: a}, Machine{MachineID: a, ProductUUID: b}
		if this.Same(that) != that.Same(this) || this.Known() && !this.Same(this) || !this.Known() && this.Same(that) {
			t.Errorf("%+v, %+v", this, that)
		}
		if x, y := this.Distinguish(that); x == "" || y == "" {
			t.Errorf("%q, %q", x, y)
		}
	})
}

// FuzzHolder: the record of the lock names a process, or is ignored.
func FuzzHolder(f *testing.F) {
	for _, s := range []string{`{"pid": 1, "command": "run", "started": 5}`, `{"pid": -1}`, `{"pid": 99999999999999999999}`, "{", "null", "", `{"pid":1,"started":-1}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if h, ok := parseHolder(data); ok != (h.PID > 0) || !ok && h != (Holder{}) {
			t.Errorf("%+v, %v", h, ok)
		}
	})
}

// FuzzProcessStart: a program can choose its name, which /proc/PID/stat contains.
func FuzzProcessStart(f *testing.F) {
	f.Add("firstboot")
	f.Add(") R 1 (")
	f.Add("a b\n) 9 9 9")
	f.Add("")
	const fields = " R 1 5 5 0 -1 4194304 100 0 0 0 1 2 3 4 20 0 5 0 424242 100 200"
	f.Fuzz(func(t *testing.T, name string) {
		if start, ok := parseStart("17 (" + name + ")" + fields); !ok || start != 424242 {
			t.Errorf("%q: %d, %v", name, start, ok)
		}
		_, _ = parseStart(name) // must not panic
	})
}
