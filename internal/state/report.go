package state

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/projecteru2/firstboot/internal/host"
)

// Report is a status that is to be posted to report.url. It is kept in ReportPath
// until the server has accepted it.
type Report struct {
	Schema  int             `json:"schema"`
	Machine Machine         `json:"machine"` // that the status is about
	State   State           `json:"state"`
	Written time.Time       `json:"written"`
	Status  json.RawMessage `json:"status"` // as status -o json prints it; secrets are masked
}

// LoadReport reads the report that is to be delivered. found is false if there is
// none.
func LoadReport(h *host.Host) (r Report, found bool, err error) {
	found, err = load(h, ReportPath, &r)
	return r, found, err
}

func (r *Report) check() error {
	if len(r.Status) == 0 {
		return errors.New("it has no status")
	}
	return nil
}

// Save writes the report. It replaces one that was not delivered yet.
func (r *Report) Save(h *host.Host) error {
	r.Schema = Schema
	return h.WithStateDirLocked(func() error { return save(h, ReportPath, r) })
}

// RemoveReport removes a delivered report, unless another one has replaced it.
func RemoveReport(h *host.Host, delivered Report) (removed bool, err error) {
	err = h.WithStateDirLocked(func() error {
		now, found, err := LoadReport(h)
		if err != nil || !found || !now.Written.Equal(delivered.Written) {
			return err
		}
		removed = true
		return h.Remove(ReportPath)
	})
	return removed && err == nil, err
}

// RemoveDamagedReport removes a report that cannot be read, unless another one
// has replaced it.
func RemoveDamagedReport(h *host.Host) error {
	return h.WithStateDirLocked(func() error {
		_, _, err := LoadReport(h)
		var damaged *DamagedError
		if !errors.As(err, &damaged) {
			return err
		}
		return h.RemoveAll(ReportPath) // may be a directory
	})
}
