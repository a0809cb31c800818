package artifact

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"

	"github.com/cavaliergopher/rpm"
)

// maxPackage bounds an RPM, in bytes. The one that is installed here has a few
// megabytes.
const maxPackage = 512 << 20

// Package is what an RPM says of itself. Nothing of it is verified: that is
// for a sha256 or VerifySignature.
type Package struct {
	Name, Version, Release, Arch string
	Epoch                        int
	Signed                       bool     // carries a signature, good or not
	Scriptlets                   []string // which run at installation and removal: "post", "preun", …
}

// String is the package as rpm names it: NAME-VERSION-RELEASE.ARCH.
func (p Package) String() string {
	epoch := ""
	if p.Epoch != 0 {
		epoch = strconv.Itoa(p.Epoch) + ":"
	}
	return fmt.Sprintf("%s-%s%s-%s.%s", p.Name, epoch, p.Version, p.Release, p.Arch)
}

// ReadPackage reads the metadata of the RPM at path.
func ReadPackage(path string) (Package, error) {
	f, err := openPackage(path)
	if err != nil {
		return Package{}, err
	}
	defer f.Close()
	p, err := readPackage(f)
	if err != nil {
		return p, refuse("is it the right file?", "cannot read the package %s: %v", path, err)
	}
	return p, nil
}

// openPackage opens a file that is not too large to be a package.
func openPackage(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the package %s: %w", path, plain(err))
	}
	info, err := f.Stat()
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxPackage) {
		err = fmt.Errorf("it is no regular file of at most %d bytes", int64(maxPackage))
	}
	if err != nil {
		f.Close()
		return nil, refuse("is it the right file?", "cannot read the package %s: %v", path, plain(err))
	}
	return f, nil
}

// readPackage keeps what the library makes of foreign bytes from ending the
// process.
func readPackage(r io.Reader) (p Package, err error) {
	headers, err := readHeaders(r)
	if err != nil {
		return p, err
	}
	defer recovered(&err)
	read, err := rpm.Read(bytes.NewReader(headers))
	if err != nil {
		return p, fmt.Errorf("%s", clip(err.Error()))
	}
	p = Package{
		Name: read.Name(), Version: read.Version(), Release: read.Release(), Arch: read.Architecture(),
		Epoch: read.Epoch(), Signed: signed(read), Scriptlets: scriptlets(read),
	}
	return p, p.check()
}

// recovered turns a library's panic over foreign bytes into an error.
func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("its headers make no sense: %s", clip(fmt.Sprint(r)))
	}
}

// plainWord is what a name, version, release or architecture is made of.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~^-]{0,254}$`)

func (p Package) check() error {
	for what, text := range map[string]string{"name": p.Name, "version": p.Version, "release": p.Release, "architecture": p.Arch} {
		if !plainWord.MatchString(text) {
			return fmt.Errorf("%q is no %s of a package", clip(text), what)
		}
	}
	if p.Epoch < 0 {
		return errors.New("its epoch is negative")
	}
	return nil
}

// signed tells whether any of the signature header's tags for signatures is
// there: DSA, RSA (of the header), PGP, GPG (of header and payload).
func signed(p *rpm.Package) bool {
	for _, tag := range []int{267, 268, 1002, 1005} {
		if len(p.Signature.GetTag(tag).Bytes()) > 0 {
			return true
		}
	}
	return false
}

func scriptlets(p *rpm.Package) []string {
	var list []string
	for _, s := range []struct{ name, body string }{
		{"pre", p.PreInstallScript()}, {"post", p.PostInstallScript()},
		{"preun", p.PreUninstallScript()}, {"postun", p.PostUninstallScript()},
	} {
		if s.body != "" {
			list = append(list, s.name)
		}
	}
	return list
}
