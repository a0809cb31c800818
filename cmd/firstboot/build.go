package main

import (
	"os"
	"runtime/debug"
	"time"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/web"
	"github.com/projecteru2/firstboot/stages"
)

// selfPath is the running binary, even if its file has been replaced.
const selfPath = "/proc/self/exe"

// selfFile returns the path of the file that this program was started from. If it
// was replaced since, that is the path of the new one. It is "" if the kernel does not
// report it. Docker mounts the file, so it must not be selfPath: that is dockerd there.
func selfFile() string {
	path, _ := os.Executable()
	return path
}

// build returns the stages of a machine.
func build(p app.BuildOptions) (app.StageSet, error) {
	env := &stages.Env{Host: p.Host, Config: p.Config, Notes: p.Notes, Self: selfFile(), Built: buildTime()}
	if p.Config != nil {
		env.Store = newStore(p.Host, p.Config)
	}
	return app.StageSet{
		Stages: stages.All(env), Prefetch: env.Prefetch,
		RemoveStale: env.RemoveStale, RestoreNetwork: env.RestoreNetwork, Network: env.NetworkMode,
		Leave: func(force bool) []engine.Stage { return stages.Leave(env, force) },
	}, nil
}

// newStore returns a store that takes artifacts from the machine's bundles and
// cache, and fetches the others.
func newStore(h *host.Host, c *config.Config) *artifact.Store {
	o := artifact.Options{
		Cache: h.RealPath(stages.CacheDir),
		Proxy: web.Proxy(c.Proxy.HTTP.Reveal(), c.Proxy.HTTPS.Reveal(), c.Proxy.No),
	}
	for _, dir := range stages.BundleDirs() {
		o.Bundles = append(o.Bundles, h.RealPath(dir))
	}
	return artifact.NewStore(o)
}

// buildTime returns the time of the commit that the binary was built from, or
// zero if it is unknown.
func buildTime() time.Time {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, buildSetting(info, "vcs.time"))
	if err != nil {
		return time.Time{}
	}
	return t
}
