package provisiontest

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/rpmpack"
)

// Calicoctl builds a program that prints a version as calicoctl does, and returns its
// content.
func Calicoctl(t testing.TB, version string) []byte {
	t.Helper()
	dir := t.TempDir()
	source := "package main\n\nimport \"os\"\n\nfunc main() { _, _ = os.Stdout.WriteString(\"Client Version:    " + version + "\\n\") }\n"
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", "calicoctl", "main.go")
	c.Dir, c.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("cannot build calicoctl: %v\n%s", err, out)
	}
	data, err := os.ReadFile(filepath.Join(dir, "calicoctl"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// ImageArchive returns an archive like that of docker save, of an image without layers.
func ImageArchive(t testing.TB, name string) []byte {
	t.Helper()
	config := FakeDigest() + ".json"
	manifest, err := json.Marshal([]map[string]any{{"Config": config, "RepoTags": []string{name}, "Layers": []string{}}})
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for path, data := range map[string]string{config: `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`, "manifest.json": string(manifest)} {
		if err := w.WriteHeader(&tar.Header{Name: path, Mode: 0o644, Size: int64(len(data))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}

// Package returns an RPM with one file.
func Package(t testing.TB, name, arch string) []byte {
	t.Helper()
	r, err := rpmpack.NewRPM(rpmpack.RPMMetaData{Name: name, Version: "0.1.0", Release: "1", Arch: arch, Compressor: "gzip", BuildTime: time.Unix(1e9, 0)})
	if err != nil {
		t.Fatal(err)
	}
	r.AddFile(rpmpack.RPMFile{Name: "/usr/bin/" + name, Body: []byte("#!/bin/sh\n"), Mode: 0o100755, Owner: "root", Group: "root"})
	var data bytes.Buffer
	if err := r.Write(&data); err != nil {
		t.Fatal(err)
	}
	return data.Bytes()
}
