package stages

import (
	"context"

	"github.com/projecteru2/firstboot/internal/calico"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/minions"
)

// expectFiles announces the files that the stages are about to write, once in a
// run and before the first of them. So the manifest lists all of them in one
// synced write. A file that is not known yet is listed when it is written.
func (e *Env) expectFiles(ctx context.Context) {
	e.expected.Do(func() {
		mode, err := e.network(ctx)
		if err != nil {
			return
		}
		list := append(sysctl{e}.files(ctx, mode), minions.Files(e.Config, mode.local())...)
		if more, err := (files{e}).wanted(ctx); err == nil {
			list = append(list, more...)
		}
		if more, err := (node{e}).files(ctx); err == nil {
			list = append(list, more...)
		}
		programs := map[string]string{}
		if digest := e.pinnedDigest(calicoctlName); digest != "" && !e.Host.Exists(calico.CtlPath) {
			programs[calico.CtlPath] = digest
		}
		e.Host.Expect(e.different(list), programs)
	})
}

// different returns the files that the host does not have yet.
func (e *Env) different(list []host.File) []host.File {
	var missing []host.File
	for _, f := range list {
		var seen engine.CheckResult
		if err := checkFile(e.Host, f, &seen); err == nil && !seen.OK() {
			missing = append(missing, f)
		}
	}
	return missing
}
