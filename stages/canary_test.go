package stages_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/report"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/stages"
	"github.com/projecteru2/firstboot/test/etcdtest"
	"github.com/projecteru2/firstboot/units"
)

// canaryMark is part of every secret of the test, so that one search finds them
// all.
const canaryMark = "c4n4ry"

// secretFor returns the secret at one place of the configuration.
func secretFor(place string) string { return canaryMark + "-" + place + "-value" }

// canary is a machine whose configuration has a secret wherever one can be.
type canary struct {
	*machine
	cmdline, credentials string

	mu      sync.Mutex
	reports []string // what report.url received
	broken  bool     // the server repeats the request's URL in an error
}

func newCanary(t *testing.T) *canary {
	return newCanaryIn(t, newCluster(t, etcdtest.Start(t, etcdtest.Options{EnableV2: true}).Endpoint))
}

func newCanaryIn(t *testing.T, cluster *fakeCluster) *canary {
	c := &canary{machine: newHost(t, cluster, "host1"), credentials: t.TempDir()}
	server := httptest.NewServer(http.HandlerFunc(c.serve))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	url := func(path, place string) string {
		return fmt.Sprintf("http://user:%s@%s%s?token=%s", secretFor(place+"-password"), host, path, secretFor(place+"-token"))
	}
	c.override(fmt.Sprintf(`calicoctl: {url: %q}
node: {url: %q, environment: {API_TOKEN: %q}}
minions: {url: %q, environment: {API_TOKEN: %q}}
report: {url: %q}
proxy: {http: "http://user:%s@192.0.2.1:1", https: "http://user:%s@192.0.2.1:1", no: "127.0.0.1"}
`, url("/calicoctl", "calicoctl"), url("/image", "image"), secretFor("node"), url("/rpm", "rpm"), secretFor("minions"),
		fmt.Sprintf("http://%s/report/%s?token=%s", host, secretFor("report-path"), secretFor("report-token")), secretFor("proxy-http"), secretFor("proxy-https")))
	credential := fmt.Sprintf("node: {environment: {CREDENTIAL: %q}}\n", secretFor("credential"))
	if err := os.WriteFile(filepath.Join(c.credentials, "firstboot.config"), []byte(credential), 0o600); err != nil {
		t.Fatal(err)
	}
	cloud := fmt.Sprintf("#cloud-config\nfirstboot: {node: {environment: {CLOUD: %q}}}\n", secretFor("cloud-init"))
	putFile(t, c.root, config.CloudConfigFile, cloud, 0o600)
	c.cmdline = fmt.Sprintf("quiet firstboot.node.environment.CMDLINE=%s", secretFor("cmdline"))
	return c
}

// serve serves the artifacts and records reports.
func (c *canary) serve(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if strings.HasPrefix(r.URL.Path, "/report/") {
		body, _ := io.ReadAll(r.Body)
		c.reports = append(c.reports, string(body))
		return
	}
	files := map[string]string{"/calicoctl": c.artifacts.calicoctl, "/image": c.artifacts.image, "/rpm": c.artifacts.rpm}
	if c.broken || files[r.URL.Path] == "" {
		password := r.Header.Get("Authorization") + r.URL.String()
		http.Error(w, "cannot serve "+password, http.StatusForbidden)
		return
	}
	http.ServeFile(w, r, files[r.URL.Path])
}

func (c *canary) options() app.Options {
	return app.Options{
		Root: c.root, Version: "v1.0.0", Build: canaryBuild, Host: systemOptions(c.t, c.root, c.step), Cmdline: c.cmdline, CredentialsDir: c.credentials,
	}
}

// canaryBuild also makes the steps of leave.
func canaryBuild(p app.BuildOptions) (app.StageSet, error) {
	e := environment(p.Host, p.Config, p.Notes, time.Time{})
	return app.StageSet{Stages: stages.All(e), Prefetch: e.Prefetch, Leave: func(force bool) []engine.Stage { return stages.Leave(e, force) }}, nil
}

// runCommands runs every command about a machine, and searches their outputs and
// errors.
func (c *canary) runCommands(when string, want int) {
	c.t.Helper()
	ctx, cancel := contextWithin(c.t, time.Minute)
	defer cancel()
	show := func(command string, text fmt.Stringer, err error) {
		c.noSecret(when+", "+command, text.String())
		if err != nil {
			c.noSecret(when+", the error of "+command, strings.Join(report.Explain(err), "\n")+fmt.Sprintf("%v %+v", err, err))
		}
	}
	var out bytes.Buffer
	run := func(force bool) app.RunOptions {
		return app.RunOptions{Options: c.options(), Force: force, Out: &out, Err: &out,
			Engine: engine.Options{MinBackOff: time.Millisecond, MaxBackOff: 2 * time.Millisecond, Attempts: 2}}
	}
	err := app.Run(ctx, run(false))
	show("run", &out, err)
	if got := app.ExitCode(err); got != want {
		c.t.Errorf("%s: the run ended with %d, want %d: %v\n%s", when, got, want, err, &out)
	}
	document := func(command string, text func(io.Writer) error, v any, err error) {
		var b bytes.Buffer
		data, jsonErr := report.Document(v)
		if err == nil {
			err = errors.Join(text(&b), jsonErr)
		}
		b.Write(data)
		show(command, &b, err)
	}
	labels := report.Labels{Differs: "differs", Summary: func(report.Checks) string { return "" }}
	status, err := app.Status(ctx, c.options())
	document("status", func(w io.Writer) error { return status.WriteText(w, report.Terminal{}, time.Now()) }, status, err)
	for name, check := range map[string]func() (report.Checks, error){
		"plan":         func() (report.Checks, error) { return app.Plan(ctx, c.options(), false) },
		"plan --force": func() (report.Checks, error) { return app.Plan(ctx, c.options(), true) },
		"verify":       func() (report.Checks, error) { return app.Verify(ctx, c.options()) },
		"leave --plan": func() (report.Checks, error) { return app.PlanLeave(ctx, c.options(), false) },
	} {
		checks, err := check()
		document(name, func(w io.Writer) error { return checks.WriteText(w, report.Terminal{}, labels) }, checks, err)
	}
	loaded, _, change, err := app.EffectiveConfiguration(ctx, c.options())
	document("config", func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s %s %v %+v", loaded.YAML(), change, loaded, loaded)
		return err
	}, loaded, err)
	files, err := app.CollectLogs(ctx, c.options(), app.Diagnostics{Files: stages.DiagnosticFiles()})
	for _, f := range files {
		c.noSecret(when+", logs, "+f.Name, f.Text)
	}
	show("logs", &bytes.Buffer{}, err)
	c.noSecretOutside(when)
}

// noSecretOutside searches what others can see: arguments of programs, reports and
// files that more than their owner can read.
func (c *canary) noSecretOutside(when string) {
	c.t.Helper()
	c.fakeSystem.mu.Lock()
	c.noSecret(when+", the arguments of a program", strings.Join(c.commands, "\n"))
	c.fakeSystem.mu.Unlock()
	c.mu.Lock()
	c.noSecret(when+", a report", strings.Join(c.reports, "\n"))
	c.mu.Unlock()
	private := 0
	err := filepath.WalkDir(c.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.HasPrefix(path, filepath.Join(c.root, "/etc/firstboot/config")) {
			return err // the operator wrote the configuration
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if info.Mode().Perm()&0o077 == 0 {
			if bytes.Contains(data, []byte(canaryMark)) {
				private++
			}
			return err
		}
		c.noSecret(fmt.Sprintf("%s, %s with mode %04o", when, path, info.Mode().Perm()), string(data))
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	if private == 0 {
		c.t.Errorf("%s: no private file has a secret: the test has no subject", when)
	}
}

func (c *canary) noSecret(where, text string) {
	c.t.Helper()
	if at := strings.Index(text, canaryMark); at >= 0 {
		c.t.Errorf("%s shows a secret: …%s…", where, text[max(0, at-80):min(len(text), at+60)])
	}
}

func TestNoCommandShowsASecretOfACompleteHost(t *testing.T) {
	c := newCanary(t)
	c.runCommands("complete", app.ExitDone)
	environment := c.get(units.CalicoNodeEnv) + c.get(state.EffectivePath)
	for _, place := range []string{"node", "credential", "cmdline", "cloud-init"} {
		if !strings.Contains(environment, secretFor(place)) {
			t.Errorf("the secret of %s did not reach the host", place)
		}
	}
	c.put("/etc/sysctl.d/99-zz-firstboot.conf", "")
	c.override("node: {environment: {OTHER: " + secretFor("edited") + "}}\n")
	c.runCommands("drifted", app.ExitDone)
	ctx, cancel := contextWithin(t, time.Minute)
	defer cancel()
	var out bytes.Buffer
	err := app.Leave(ctx, app.RunOptions{Options: c.options(), Force: true, Out: &out, Err: &out})
	c.noSecret("leave", fmt.Sprintf("%s%v", &out, err))
	c.noSecretOutside("left")
}

func TestNoCommandShowsASecretThatOthersRepeat(t *testing.T) {
	for name, breakIt := range map[string]func(c *canary){
		"a server": func(c *canary) { c.broken = true },
		"a program": func(c *canary) {
			text := strings.Join([]string{secretFor("minions"), secretFor("node"), secretFor("rpm-password"), secretFor("credential"), secretFor("cmdline")}, " ")
			c.commandFails = map[string]CommandResult{"rpm": {Exit: 1, Stdout: text, Stderr: "error: " + text}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCanary(t)
			breakIt(c)
			c.runCommands("failed", app.ExitFailed)
		})
	}
}

// TestNoCommandShowsASecretOfARefusedHost has one host for each finding of
// preflight.
func TestNoCommandShowsASecretOfARefusedHost(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	tried := map[string]bool{}
	for _, refused := range refusedCases() {
		if refused.warning || tried[refused.name] {
			continue
		}
		tried[refused.name] = true
		t.Run(refused.name, func(t *testing.T) {
			c := newCanaryIn(t, newCluster(t, etcd.Endpoint))
			refused.arrange(c.machine)
			c.runCommands("refused", app.ExitRefused)
		})
	}
	if len(tried) < 25 {
		t.Errorf("tried only %d findings", len(tried))
	}
}

// TestNoCommandShowsASecretOfAFailedHost covers the failure modes of a run and of
// its state files.
func TestNoCommandShowsASecretOfAFailedHost(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	pin := func(section string) func(*canary) {
		return func(c *canary) { c.override(section + ": {sha256: " + strings.Repeat("ab", 32) + "}") }
	}
	fails := func(program string) func(*canary) {
		return func(c *canary) {
			text := secretFor("node") + " " + secretFor("rpm-password")
			c.commandFails = map[string]CommandResult{program: {Exit: 1, Stdout: text, Stderr: "error: " + text}}
		}
	}
	invalid := func(text string) func(*canary) { return func(c *canary) { c.override(text) } }
	holds := func(path, text string) func(*canary) {
		return func(c *canary) { putFile(c.t, c.root, path, text, 0o600) }
	}
	for name, failure := range map[string]struct {
		arrange func(*canary)
		want    int
	}{
		"calicoctl has another digest":   {pin("calicoctl"), app.ExitFailed},
		"the image has another digest":   {pin("node"), app.ExitFailed},
		"the package has another digest": {pin("minions"), app.ExitFailed},
		"calicoctl fails":                {fails("calicoctl"), app.ExitFailed},
		"the plugin cannot be installed": {fails("rpm"), app.ExitFailed},
		"Docker prints secrets": {func(c *canary) {
			c.docker.pullFails = httpAnswer{404, secretFor("node")}
			c.override(`node: {url: "", sha256: ""}`)
		}, app.ExitFailed},
		"no container answers": {func(c *canary) {
			for i := range 10 {
				c.docker.noReply[fmt.Sprintf("10.213.0.%d", i)] = true
			}
		}, app.ExitFailed},
		"an unknown key":                  {invalid("node: {" + secretFor("node") + ": x}"), app.ExitConfig},
		"a secret of a wrong type":        {invalid("node: {environment: [" + secretFor("node") + "]}"), app.ExitConfig},
		"a URL that cannot be parsed":     {invalid("report: {url: \"http://u:" + secretFor("node") + "%zz@h/\"}"), app.ExitConfig},
		"a password for etcd":             {invalid("etcd: {passwordFile: /etc/firstboot/" + secretFor("node") + "}"), app.ExitConfig},
		"not YAML":                        {invalid("node: {environment: {A: " + secretFor("node")), app.ExitConfig},
		"a damaged journal":               {holds(state.JournalPath, "{"+secretFor("node")), app.ExitDone},
		"a damaged marker":                {holds(state.MarkerPath, "{"+secretFor("node")), app.ExitDone},
		"a state file of a newer version": {holds(state.JournalPath, `{"schema": 99, "machine": "`+secretFor("node")+`"}`), app.ExitFailed},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCanaryIn(t, newCluster(t, etcd.Endpoint))
			failure.arrange(c)
			c.runCommands(name, failure.want)
		})
	}
}
