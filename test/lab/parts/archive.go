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

// imageConfig is how a container of the image starts.
type imageConfig struct {
	Cmd []string
	Env []string
}

// writeArchive writes a tree as an image of one layer, in the form that
// docker save writes: the layer, its configuration, and a manifest that names
// both. Its ID is the hash of the configuration, which holds the layer's.
func writeArchive(file string, t tree, c imageConfig) error {
	layer, err := os.CreateTemp(filepath.Dir(file), "layer-")
	if err != nil {
		return err
	}
	defer os.Remove(layer.Name())
	hash := sha256.New()
	if err := errors.Join(t.write(io.MultiWriter(layer, hash)), layer.Close()); err != nil {
		return err
	}
	layerID := hex.EncodeToString(hash.Sum(nil))
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "created": imageTime(), "config": c,
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + layerID}},
		"history": []any{map[string]any{"created": imageTime(), "created_by": "firstboot's lab"}},
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
	return writeParts(file, []part{
		// The small ones first: who looks for the manifest need not read
		// through the layer.
		{"manifest.json", node{mode: 0o644, data: manifest}},
		{configName, node{mode: 0o644, data: config}},
		{layerName, node{mode: 0o644, from: layer.Name()}},
	})
}

// part is a file of the archive.
type part struct {
	name string
	node node
}

func writeParts(file string, all []part) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	out := tar.NewWriter(f)
	for _, p := range all {
		if err := p.node.write(out, p.name); err != nil {
			return fmt.Errorf("cannot pack %s: %w", p.name, err)
		}
	}
	return errors.Join(out.Close(), f.Close())
}
