package parts

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// imagePrograms lists the programs that the image takes from Debian's packages.
func imagePrograms() []string {
	return []string{
		"bird", "bird6", "birdc",
		"runsvdir", "runsv", "sv", "svlogd", "chpst",
		"xtables-legacy-multi", "xtables-nft-multi",
		"ipset", "conntrack", "ip", "tc", "bash", "busybox",
	}
}

// rootfs assembles the image's file system.
func rootfs(ctx context.Context, in imageInputs, unpacked string) (tree, error) {
	t := tree{}
	for _, dir := range mergedDirs() {
		t[dir] = node{mode: fs.ModeSymlink | 0o777, link: "usr/" + dir}
	}
	programs, err := addPrograms(t, unpacked)
	if err != nil {
		return nil, err
	}
	if err := addLibraries(t, unpacked, programs); err != nil {
		return nil, err
	}
	if err := addXtables(t, unpacked); err != nil {
		return nil, err
	}
	if err := addBusybox(ctx, t, filepath.Join(unpacked, "bin/busybox")); err != nil {
		return nil, err
	}
	addBaseFiles(t)
	return t, addCalico(t, in)
}

// addPrograms adds the programs and the plugins of iptables. It returns the
// paths of these files: the image needs their libraries.
func addPrograms(t tree, unpacked string) ([]string, error) {
	var files []string
	for _, name := range imagePrograms() {
		to, from, err := findProgram(unpacked, name)
		if err != nil {
			return nil, err
		}
		t.addFile(to, from, 0o755)
		files = append(files, from)
	}
	t.addSymlink("usr/bin/sh", "bash")       // as in upstream's image
	t.addSymlink("usr/sbin/birdcl", "birdc") // the name that Calico uses
	plugins, err := filepath.Glob(filepath.Join(unpacked, "usr/lib/*/xtables/*.so"))
	if err != nil {
		return nil, err
	}
	if len(plugins) == 0 {
		return nil, fmt.Errorf("cannot find the plugins of iptables (usr/lib/*/xtables)")
	}
	for _, from := range plugins {
		to, err := filepath.Rel(unpacked, from)
		if err != nil {
			return nil, err
		}
		from, err := realFile(unpacked, from)
		if err != nil {
			return nil, err
		}
		t.addFile(to, from, 0o644)
		files = append(files, from)
	}
	return files, nil
}

// findProgram finds a program in the directories that packages use.
func findProgram(unpacked, name string) (to, from string, err error) {
	for _, dir := range []string{"usr/sbin", "usr/bin", "sbin", "bin"} {
		if from, err := realFile(unpacked, filepath.Join(unpacked, dir, name)); err == nil {
			return path.Join(dir, name), from, nil
		}
	}
	return "", "", fmt.Errorf("cannot find the program %s in the packages of the image", name)
}

// addLibraries adds the libraries that the files need, a symbolic link for each
// name that differs from the file's, and the loaders.
func addLibraries(t tree, unpacked string, files []string) error {
	all, err := findLibraries(unpacked)
	if err != nil {
		return err
	}
	names, loaders, err := all.needed(files)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		from, err := realFile(unpacked, all[name])
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(unpacked, filepath.Dir(all[name]))
		if err != nil {
			return err
		}
		t.addFile(path.Join(dir, filepath.Base(from)), from, 0o644)
		if filepath.Base(from) != name {
			t.addSymlink(path.Join(dir, name), filepath.Base(from))
		}
	}
	for _, loader := range slices.Sorted(maps.Keys(loaders)) {
		from, err := realFile(unpacked, filepath.Join(unpacked, loader))
		if err != nil {
			return err
		}
		t.addFile(loader, from, 0o755)
	}
	return nil
}

// addXtables adds the symbolic links to the multi-call binaries
// (iptables-legacy-save and so on) that the package has. Names without a suffix
// are links to the legacy binary, as in upstream's image.
func addXtables(t tree, unpacked string) error {
	links, err := filepath.Glob(filepath.Join(unpacked, "usr/sbin/*"))
	if err != nil {
		return err
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, "xtables-") {
			name := filepath.Base(link)
			t.addSymlink("usr/sbin/"+name, target)
			if strings.HasPrefix(target, "xtables-legacy") {
				t.addSymlink("usr/sbin/"+strings.Replace(name, "-legacy", "", 1), target)
			}
		}
	}
	if !t.has("iptables-nft-restore") || !t.has("ip6tables-save") {
		return fmt.Errorf("cannot find iptables-nft-restore and ip6tables-save in the package iptables")
	}
	return nil
}

// addBusybox adds a link for every applet, unless the image has a program of that name.
func addBusybox(ctx context.Context, t tree, busybox string) error {
	out, err := run(ctx, process{name: busybox, args: []string{"--list"}})
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(out) {
		if !t.has(name) {
			t.addSymlink("usr/bin/"+name, "busybox")
		}
	}
	return nil
}

// addBaseFiles adds directories and files that programs expect. It must not add
// /etc/service/enabled: Calico's startup script creates it.
func addBaseFiles(t tree) {
	for _, dir := range []string{"dev", "proc", "sys", "run", "var/lib/calico", "var/log/calico", "opt"} {
		t.addEmptyDir(dir, 0o755)
	}
	t.addEmptyDir("root", 0o700)
	t.addEmptyDir("tmp", fs.ModeSticky|0o777)
	t.addSymlink("var/run", "../run")
	t.addText("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
	t.addText("etc/group", "root:x:0:\n")
	t.addText("etc/hosts", "127.0.0.1 localhost\n") // Felix listens on localhost; Docker mounts its own file here
}
