package parts

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
)

// imageConfig holds the command and environment of the image's containers.
type imageConfig struct {
	Cmd []string
	Env []string
}

// writeArchive writes the tree as an image with one layer, in the format of
// docker save: the layer, its configuration, and a manifest that names both.
// The image ID is the digest of the configuration, which contains the layer's.
func writeArchive(file string, t tree, c imageConfig) error {
	layer, err := os.CreateTemp(filepath.Dir(file), "layer-")
	if err != nil {
		return err
	}
	defer os.Remove(layer.Name())
	digest := sha256.New()
	if err := errors.Join(t.write(io.MultiWriter(layer, digest)), layer.Close()); err != nil {
		return err
	}
	layerID := hex.EncodeToString(digest.Sum(nil))
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "created": imageTime(), "config": c,
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + layerID}},
		"history": []any{map[string]any{"created": imageTime(), "created_by": "firstboot lab"}},
	})
	if err != nil {
		return err
	}
	id := sha256.Sum256(config)
	configName, layerName := hex.EncodeToString(id[:])+".json", layerID+"/layer.tar"
	manifest, err := json.Marshal([]any{map[string]any{
		"Config": configName, "RepoTags": []string{ImageName}, "Layers": []string{layerName},
	}})
	if err != nil {
		return err
	}
	return writeEntries(file, []archiveEntry{
		// The small files come first, so that a reader finds the manifest
		// without reading the layer.
		{"manifest.json", node{mode: 0o644, data: manifest}},
		{configName, node{mode: 0o644, data: config}},
		{layerName, node{mode: 0o644, from: layer.Name()}},
	})
}

// archiveEntry is one file of the archive.
type archiveEntry struct {
	name string
	node node
}

func writeEntries(file string, entries []archiveEntry) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	out := tar.NewWriter(f)
	for _, e := range entries {
		if err := e.node.write(out, e.name); err != nil {
			return fmt.Errorf("cannot pack %s: %w", e.name, err)
		}
	}
	return errors.Join(out.Close(), f.Close())
}
