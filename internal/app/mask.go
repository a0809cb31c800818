package app

import (
	"errors"
	"net/url"
	"strings"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
)

// shortestSecret is the length, in bytes, of the shortest secret that is masked in
// messages. Shorter values are mostly words such as "true".
const shortestSecret = 8

// mask removes configured secrets from messages. No stage prints a secret itself,
// but the error of a command or a server may repeat one.
type mask struct{ replacer *strings.Replacer }

func newMask(h *host.Host, cfg *config.Config) mask {
	var pairs []string
	for _, secret := range secretsOf(h, cfg) {
		if len(secret) >= shortestSecret {
			pairs = append(pairs, secret, "***")
		}
	}
	return mask{strings.NewReplacer(pairs...)}
}

func secretsOf(h *host.Host, cfg *config.Config) []string {
	var all []string
	for _, s := range cfg.Node.Environment {
		all = append(all, s.Reveal())
	}
	for _, s := range cfg.Minions.Environment {
		all = append(all, s.Reveal())
	}
	for _, u := range []config.URL{cfg.Calicoctl.URL, cfg.Node.URL, cfg.Minions.URL, cfg.Report.URL, cfg.Proxy.HTTP, cfg.Proxy.HTTPS} {
		all = append(all, credentialsOf(u)...)
	}
	if path := cfg.Etcd.PasswordFile; path != "" {
		if data, err := h.ReadFile(path); err == nil {
			all = append(all, strings.TrimSpace(string(data)))
		}
	}
	return all
}

// credentialsOf returns the password and the query values of a URL.
func credentialsOf(location config.URL) []string {
	u, err := url.Parse(location.Reveal())
	if err != nil {
		return nil
	}
	var all []string
	if password, ok := u.User.Password(); ok {
		all = append(all, password, url.QueryEscape(password))
	}
	for _, values := range u.Query() {
		for _, v := range values {
			all = append(all, v, url.QueryEscape(v))
		}
	}
	return all
}

// events returns a function that masks an event and passes it to next.
func (m mask) events(next func(engine.Event)) func(engine.Event) {
	return func(e engine.Event) {
		e.Message, e.Err, e.Check = m.replacer.Replace(e.Message), m.err(e.Err), m.checkResult(e.Check)
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
	text, hint := m.replacer.Replace(err.Error()), m.replacer.Replace(engine.Hint(err))
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
	return c
}

func (m mask) differences(all []engine.Difference) []engine.Difference {
	safe := make([]engine.Difference, len(all))
	for i, d := range all {
		safe[i] = engine.Difference{
			Name: d.Name, Object: m.replacer.Replace(d.Object), Actual: m.replacer.Replace(d.Actual),
			Expected: m.replacer.Replace(d.Expected), Fix: m.replacer.Replace(d.Fix), Diff: m.replacer.Replace(d.Diff),
			Stops: d.Stops,
		}
	}
	return safe
}
