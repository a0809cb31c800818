package app

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/secret"
)

const maskedSecret = "pw-9"

func testMask(t *testing.T) mask {
	t.Helper()
	c := config.Default()
	c.Node.Environment = map[string]secret.Value{"A": maskedSecret, "B": maskedSecret + "-production"}
	return newMask(host.New(t.TempDir()), c)
}

// fill sets every text below v to text that contains a secret, so that a field
// which is added later is covered too.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("x " + maskedSecret + "-production")
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Uint8 {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			fill(v.Index(0))
		}
	}
}

func noMaskedSecret(t *testing.T, what string, v any) {
	t.Helper()
	if text := fmt.Sprintf("%+v", v); strings.Contains(text, maskedSecret) || strings.Contains(text, "production") || !strings.Contains(text, "***") {
		t.Errorf("%s is %s", what, text)
	}
}

// TestMaskCoversEveryTextOfACheck: differences, warnings and notes. Names of
// differences are fixed words.
func TestMaskCoversEveryTextOfACheck(t *testing.T) {
	var check engine.CheckResult
	fill(reflect.ValueOf(&check).Elem())
	check.Differences[0].Name = "name"
	noMaskedSecret(t, "the masked check", testMask(t).checkResult(check))
}

func TestMaskCoversEvents(t *testing.T) {
	var got engine.Event
	send := testMask(t).events(func(e engine.Event) { got = e })
	send(engine.Event{Message: "x " + maskedSecret, Err: errors.New("x " + maskedSecret)})
	noMaskedSecret(t, "the message", got.Message)
	noMaskedSecret(t, "the error", got.Err)
}

func TestMaskCoversErrorsAndHints(t *testing.T) {
	m := testMask(t)
	err := m.err(engine.WithHint(errors.New("x "+maskedSecret), "y %s", maskedSecret))
	noMaskedSecret(t, "the error", err)
	noMaskedSecret(t, "the hint", engine.Hint(err))
	refusal := m.err(&engine.Refusal{Findings: []engine.Difference{{Name: "clock", Actual: maskedSecret}}})
	noMaskedSecret(t, "the refusal", refusal)
	run := m.runError(&engine.Error{Stages: map[string]error{"node": errors.New(maskedSecret)}, Order: []string{"node"}})
	noMaskedSecret(t, "the error of a run", run)
}

// TestMaskCoversEveryConfiguredSecret: each key whose value can hold a secret,
// and the file that holds etcd's password.
func TestMaskCoversEveryConfiguredSecret(t *testing.T) {
	c := config.Default()
	c.Node.Environment = map[string]secret.Value{"A": "one-1"}
	c.Minions.Environment = map[string]secret.Value{"A": "two-2"}
	c.Calicoctl.URL, c.Node.URL, c.Minions.URL = "https://u:three-3@h/a", "https://four-4@h/a", "https://h/a?x=five-5"
	c.Report.URL, c.Proxy.HTTP, c.Proxy.HTTPS = "https://h/hooks/six-6-six-6", "http://u:seven-7@h", "socks5://eight-8@h"
	c.Etcd.PasswordFile = "/etc/etcd.password"
	h := host.New(t.TempDir())
	if err := h.WriteFile(c.Etcd.PasswordFile, []byte("nine-9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := newMask(h, c).Text("one-1 two-2 three-3 four-4 five-5 six-6-six-6 seven-7 eight-8 nine-9")
	if strings.Trim(got, "* ") != "" {
		t.Errorf("the masked text is %q", got)
	}
}
