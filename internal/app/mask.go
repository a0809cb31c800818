package app

import (
	"errors"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/secret"
)

// mask removes configured secrets from what the engine reports. No stage prints
// a secret itself, but the error of a command or a server may repeat one. The
// zero mask omits all text.
type mask struct{ secret.Mask }

// newMask returns the mask of the configurations' secrets, including the content
// of the file that holds etcd's password.
func newMask(h *host.Host, all ...*config.Config) mask {
	var secrets []string
	for _, cfg := range all {
		secrets = append(secrets, cfg.Secrets()...)
		if path := cfg.Etcd.PasswordFile; path != "" {
			if data, err := h.ReadFile(path); err == nil {
				secrets = append(secrets, string(data))
			}
		}
	}
	return mask{secret.NewMask(secrets...)}
}

// events returns a function that masks an event and passes it to next.
func (m mask) events(next func(engine.Event)) func(engine.Event) {
	return func(e engine.Event) {
		e.Message, e.Err, e.Check = m.Text(e.Message), m.err(e.Err), m.checkResult(e.Check)
		next(e)
	}
}

// masked is an error with a masked text.
type masked struct {
	error
	text string
}

func (m masked) Error() string { return m.text }

func (m masked) Unwrap() error { return m.error }

func (m mask) err(err error) error {
	if err == nil {
		return nil
	}
	var refusal *engine.Refusal
	if errors.As(err, &refusal) {
		return &engine.Refusal{Findings: m.differences(refusal.Findings)}
	}
	text, hint := m.Text(err.Error()), m.Text(engine.Hint(err))
	if text == err.Error() && hint == engine.Hint(err) {
		return err
	}
	if hint == "" {
		return masked{err, text}
	}
	return engine.WithHint(masked{err, text}, "%s", hint)
}

// runError masks the error of a run and the errors of its stages.
func (m mask) runError(err error) error {
	var run *engine.Error
	if !errors.As(err, &run) {
		return m.err(err)
	}
	safe := &engine.Error{Stages: map[string]error{}, Order: run.Order}
	for name, cause := range run.Stages {
		safe.Stages[name] = m.err(cause)
	}
	return safe
}

func (m mask) checkResult(c engine.CheckResult) engine.CheckResult {
	c.Differences = m.differences(c.Differences)
	c.Warnings, c.Notes = m.texts(c.Warnings), m.texts(c.Notes)
	return c
}

func (m mask) texts(all []string) []string {
	var safe []string
	for _, text := range all {
		safe = append(safe, m.Text(text))
	}
	return safe
}

func (m mask) differences(all []engine.Difference) []engine.Difference {
	safe := make([]engine.Difference, len(all))
	for i, d := range all {
		d.Object, d.Actual, d.Expected = m.Text(d.Object), m.Text(d.Actual), m.Text(d.Expected)
		d.Fix, d.Diff = m.Text(d.Fix), m.Text(d.Diff)
		safe[i] = d
	}
	return safe
}
