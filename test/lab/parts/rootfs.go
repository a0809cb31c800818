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

// imagePrograms are the programs that the image takes from Debian's packages.
func imagePrograms() []string {
	return []string{
		"bird", "bird6", "birdc",
		"runsvdir", "runsv", "sv", "svlogd", "chpst",
		"xtables-legacy-multi", "xtables-nft-multi",
		"ipset", "conntrack", "ip", "tc", "bash", "busybox",
	}
}

// rootfs puts the image's file system together.
func rootfs(ctx context.Context, in imageInputs, unpacked string) (tree, error) {
	t := tree{}
	for _, dir := range merged() {
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
	addFolders(t)
	return t, addCalico(t, in)
}

// addPrograms adds the programs, and returns them with their plugins: the
// files whose libraries the image needs.
func addPrograms(t tree, unpacked string) ([]string, error) {
	var files []string
	for _, name := range imagePrograms() {
		to, from, err := findProgram(unpacked, name)
		if err != nil {
			return nil, err
		}
		t.copyOf(to, from, 0o755)
		files = append(files, from)
	}
	t.symlink("usr/bin/sh", "bash")       // as upstream
	t.symlink("usr/sbin/birdcl", "birdc") // Calico's name for it
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
		t.copyOf(to, from, 0o644)
		files = append(files, from)
	}
	return files, nil
}

// findProgram finds a program where packages have them.
func findProgram(unpacked, name string) (to, from string, err error) {
	for _, dir := range []string{"usr/sbin", "usr/bin", "sbin", "bin"} {
		if from, err := realFile(unpacked, filepath.Join(unpacked, dir, name)); err == nil {
			return path.Join(dir, name), from, nil
		}
	}
	return "", "", fmt.Errorf("no package of the image holds the program %s", name)
}

// addLibraries adds the libraries that the files need, with the names that
// they ask for as links, and the loader where they look for it.
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
		folder, err := filepath.Rel(unpacked, filepath.Dir(all[name]))
		if err != nil {
			return err
		}
		t.copyOf(path.Join(folder, filepath.Base(from)), from, 0o644)
		if filepath.Base(from) != name {
			t.symlink(path.Join(folder, name), filepath.Base(from))
		}
	}
	for _, loader := range slices.Sorted(maps.Keys(loaders)) {
		from, err := realFile(unpacked, filepath.Join(unpacked, loader))
		if err != nil {
			return err
		}
		t.copyOf(loader, from, 0o755)
	}
	return nil
}

// addXtables adds the names of the multi-binaries: iptables-legacy-save and so
// on, as the package links them. The plain names are the legacy ones, as
// upstream has it.
func addXtables(t tree, unpacked string) error {
	links, err := filepath.Glob(filepath.Join(unpacked, "usr/sbin/*"))
	if err != nil {
		return err
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, "xtables-") {
			name := filepath.Base(link)
			t.symlink("usr/sbin/"+name, target)
			if strings.HasPrefix(target, "xtables-legacy") {
				t.symlink("usr/sbin/"+strings.Replace(name, "-legacy", "", 1), target)
			}
		}
	}
	if !t.has("iptables-nft-restore") || !t.has("ip6tables-save") {
		return fmt.Errorf("the package iptables has not the links to xtables-*-multi that were expected")
	}
	return nil
}

// addBusybox links every applet whose name no real program has.
func addBusybox(ctx context.Context, t tree, busybox string) error {
	out, err := run(ctx, process{name: busybox, args: []string{"--list"}})
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(out) {
		if !t.has(name) {
			t.symlink("usr/bin/"+name, "busybox")
		}
	}
	return nil
}

// addFolders adds what programs expect to be there. /etc/service/enabled must
// not be: Calico's start makes it.
func addFolders(t tree) {
	for _, dir := range []string{"dev", "proc", "sys", "run", "var/lib/calico", "var/log/calico", "opt"} {
		t.folder(dir, 0o755)
	}
	t.folder("root", 0o700)
	t.folder("tmp", fs.ModeSticky|0o777)
	t.symlink("var/run", "../run")
	t.text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
	t.text("etc/group", "root:x:0:\n")
	t.text("etc/hosts", "127.0.0.1 localhost\n") // Felix listens there; Docker puts the host's over it
}
