// Package parts makes what a machine of the lab needs besides Debian: the real
// calicoctl, an image with the real calico-node, and the RPM of a stand-in for
// eru-minions. What is made is kept in the lab's cache. An operator's own
// files may take the place of each.
package parts

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/projecteru2/firstboot/test/lab/cache"
)

// CalicoVersion is the Calico that is built here.
const CalicoVersion = "v3.23.0"

// ImageName is the name of the image that is built here.
const ImageName = "calico/node:" + CalicoVersion

// Options are the operator's own parts: paths. What is empty is built here.
type Options struct {
	Calicoctl  string // an executable
	NodeImage  string // an image archive, as docker save writes it; plain, gzip or bzip2
	MinionsRPM string
	// Log takes progress, a line a call, without a line end; nil: silent.
	Log func(format string, args ...any)
}

// Parts are files ready to be put in a bundle. Those that were built here
// stand in the cache: read them only.
type Parts struct {
	Calicoctl        string
	CalicoctlVersion string // as calicoctl version says: v3.23.0
	NodeImage        string
	NodeImageName    string // name:tag inside the archive
	MinionsRPM       string
}

// Build returns all parts: the operator's after a look at them, the others
// from the cache, or built. A first build takes minutes (Calico's is 160 s on
// two cores) and needs the Go module proxy and Debian's packages.
func Build(ctx context.Context, o Options) (Parts, error) {
	own, err := checkOwn(ctx, o)
	if err != nil {
		return Parts{}, err // before anything slow starts
	}
	b := builder{store: cache.Open(o.Log)}
	if own.complete() {
		return own, nil
	}
	if b.dir, err = moduleDir(ctx); err != nil {
		return Parts{}, err
	}
	if own.Calicoctl == "" {
		if err := b.calicoctl(ctx, &own); err != nil {
			return Parts{}, err
		}
	}
	if own.NodeImage == "" {
		if own.NodeImage, err = b.nodeImage(ctx); err != nil {
			return Parts{}, err
		}
		own.NodeImageName = ImageName
	}
	if own.MinionsRPM == "" {
		if own.MinionsRPM, err = b.minionsRPM(ctx); err != nil {
			return Parts{}, err
		}
	}
	return own, nil
}

func (p Parts) complete() bool {
	return p.Calicoctl != "" && p.NodeImage != "" && p.MinionsRPM != ""
}

// builder makes parts from the nested Go module in dir.
type builder struct {
	store cache.Store
	dir   string
}

func (b builder) calicoctl(ctx context.Context, p *Parts) error {
	path, err := b.goProgram(ctx, calicoctl())
	if err != nil {
		return err
	}
	p.Calicoctl = path
	p.CalicoctlVersion, err = calicoctlVersion(ctx, path)
	if err == nil && p.CalicoctlVersion != CalicoVersion {
		err = fmt.Errorf("cannot use the calicoctl that was built: it says %s, want %s", p.CalicoctlVersion, CalicoVersion)
	}
	return err
}

// nodeImage builds the archive of ImageName.
func (b builder) nodeImage(ctx context.Context) (string, error) {
	node, err := b.goProgram(ctx, calicoNode())
	if err != nil {
		return "", err
	}
	calico, err := b.calicoSource(ctx)
	if err != nil {
		return "", err
	}
	image, err := b.imageOf(ctx, node, calico)
	if errors.Is(err, errDownload) {
		if err := errors.Join(updateLists(ctx), ctx.Err()); err != nil {
			return "", fmt.Errorf("cannot build the node image: %w", err)
		}
		image, err = b.imageOf(ctx, node, calico)
	}
	return image, err
}

// imageOf builds the image with Debian's packages as apt knows them now.
func (b builder) imageOf(ctx context.Context, node, calico string) (string, error) {
	packages, err := debianPackages(ctx, imagePackages())
	if err != nil {
		return "", err
	}
	key := cache.Key(ImageName, filepath.Base(filepath.Dir(node)), packages.key(), recipe())
	dir, err := b.store.Get(ctx, "node-image", key, func(ctx context.Context, dir string) error {
		return writeNodeImage(ctx, imageInputs{node, calico, packages}, filepath.Join(dir, imageFile))
	})
	return filepath.Join(dir, imageFile), err
}

const imageFile = "calico-node.tar"
