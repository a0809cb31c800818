// Package parts builds the parts that a lab machine needs in addition to Debian:
// the real calicoctl, an image with the real calico-node, and the RPM of a
// stand-in for eru-minions. It keeps them in the lab's cache. An operator can
// supply files instead.
package parts

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/projecteru2/firstboot/test/lab/cache"
)

// CalicoVersion is the version of Calico that this package builds.
const CalicoVersion = "v3.23.0"

// ImageName is the name of the image that this package builds.
const ImageName = "calico/node:" + CalicoVersion

// Options are the paths of the operator's files. Parts with an empty path are built.
type Options struct {
	Calicoctl  string // an executable
	NodeImage  string // an image archive of docker save; plain, gzip or bzip2
	MinionsRPM string
	// Log receives one line of progress per call, without a newline. It may be nil.
	Log func(format string, args ...any)
}

// Parts are files for a bundle. Do not change them: they may be in the cache.
type Parts struct {
	Calicoctl        string
	CalicoctlVersion string // as printed by calicoctl version: v3.23.0
	NodeImage        string
	NodeImageName    string // name:tag inside the archive
	MinionsRPM       string
}

// Build returns all parts. It checks the operator's files, and builds the other
// parts unless they are in the cache. The first build takes minutes (Calico alone
// 160 s on two cores) and needs the Go module proxy and Debian's packages.
func Build(ctx context.Context, o Options) (Parts, error) {
	p, err := checkSupplied(ctx, o)
	if err != nil {
		return Parts{}, err // before any slow build
	}
	b := builder{store: cache.Open(o.Log)}
	if p.complete() {
		return p, nil
	}
	if b.dir, err = moduleDir(ctx, calicoDir); err != nil {
		return Parts{}, err
	}
	if p.Calicoctl == "" {
		if err := b.calicoctl(ctx, &p); err != nil {
			return Parts{}, err
		}
	}
	if p.NodeImage == "" {
		if p.NodeImage, err = b.nodeImage(ctx); err != nil {
			return Parts{}, err
		}
		p.NodeImageName = ImageName
	}
	if p.MinionsRPM == "" {
		if p.MinionsRPM, err = b.minionsRPM(ctx); err != nil {
			return Parts{}, err
		}
	}
	return p, nil
}

func (p Parts) complete() bool {
	return p.Calicoctl != "" && p.NodeImage != "" && p.MinionsRPM != ""
}

// builder builds parts from the nested Go module in dir.
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
		err = fmt.Errorf("cannot use the calicoctl that was built: its version is %s, want %s", p.CalicoctlVersion, CalicoVersion)
	}
	return err
}

// nodeImage builds the image archive.
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

// imageOf builds the image with the current versions of Debian's packages.
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
