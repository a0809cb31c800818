package parts

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/google/rpmpack"

	"github.com/projecteru2/firstboot/test/lab/cache"
)

const (
	minionsName    = "eru-minions"
	minionsVersion = "0.1.0"
	minionsRelease = "1.lab"
	// minionsConf overwrites an existing file when the package is installed:
	// like the real package, this one does not mark it as a configuration file.
	minionsConf = "ETCD_ENDPOINTS=http://127.0.0.1:2379\n"
)

//go:embed eru-minions.service
var minionsUnit []byte

//go:embed minions.go
var minionsRecipe string

// minionsRPM builds the package of the stand-in. Like the real package, it is
// unsigned and has the same name, files and single scriptlet.
func (b builder) minionsRPM(ctx context.Context) (string, error) {
	program, err := b.goProgram(ctx, minions())
	if err != nil {
		return "", err
	}
	file := fmt.Sprintf("%s-%s-%s.rpm", minionsName, minionsVersion, minionsRelease)
	key := cache.Key(filepath.Base(filepath.Dir(program)), string(minionsUnit), minionsRecipe)
	dir, err := b.store.Get(ctx, minionsName+"-rpm", key, func(_ context.Context, dir string) error {
		data, err := os.ReadFile(program)
		if err != nil {
			return err
		}
		return writeRPM(filepath.Join(dir, file), data)
	})
	return filepath.Join(dir, file), err
}

// rpmArch returns rpm's name for this machine's architecture.
func rpmArch() string {
	if runtime.GOARCH == "arm64" {
		return "aarch64"
	}
	return "x86_64"
}

func writeRPM(path string, program []byte) error { return writePackage(path, minionsName, program) }

func writePackage(path, name string, program []byte) error {
	r, err := rpmpack.NewRPM(rpmpack.RPMMetaData{
		Name: name, Version: minionsVersion, Release: minionsRelease, Arch: rpmArch(),
		Summary: "Stand-in for eru-minions in firstboot's lab", Licence: "Apache-2.0",
		Compressor: "gzip", BuildTime: imageTime(),
		Requires: rpmpack.Relations{{Name: "/bin/sh"}}, // for the scriptlet; rpmbuild and fpm add it too
	})
	if err != nil {
		return err
	}
	for _, f := range []rpmpack.RPMFile{
		{Name: "/usr/bin/eru-minions", Body: program, Mode: 0o100755},
		{Name: "/usr/lib/systemd/system/eru-minions.service", Body: minionsUnit, Mode: 0o100644},
		{Name: "/etc/eru/minions.conf", Body: []byte(minionsConf), Mode: 0o100644},
	} {
		f.Owner, f.Group, f.MTime = "root", "root", uint32(imageTime().Unix())
		r.AddFile(f)
	}
	r.AddPostin("systemctl daemon-reload\n")
	var data bytes.Buffer
	if err := r.Write(&data); err != nil {
		return fmt.Errorf("cannot pack the RPM: %w", err)
	}
	return os.WriteFile(path, data.Bytes(), 0o644)
}
