package artifact

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"

	"github.com/cavaliergopher/rpm"

	"github.com/projecteru2/firstboot/internal/text"
)

// maxPackage bounds an RPM, in bytes. The RPM of eru-minions has a few
// megabytes.
const maxPackage = 512 << 20

// hintPackage is the hint for a file that is not a valid RPM.
const hintPackage = "check that it is the right file"

// Package is the metadata of an RPM. It is not verified: a sha256 or
// VerifySignature does that.
type Package struct {
	Name, Version, Release, Arch string
	Epoch                        int
	Signed                       bool     // has a signature, valid or not
	Scriptlets                   []string // run at installation and removal: "post", "preun", …
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
		return p, invalidf(hintPackage, "cannot read the package %s: %v", path, err)
	}
	return p, nil
}

// openPackage opens an RPM and checks its size.
func openPackage(path string) (*os.File, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the package %s: %w", path, withoutPath(err))
	}
	info, err := f.Stat()
	if err == nil && info.Size() > maxPackage {
		err = fmt.Errorf("larger than %d bytes", int64(maxPackage))
	}
	if err != nil {
		f.Close()
		return nil, invalidf(hintPackage, "cannot read the package %s: %v", path, withoutPath(err))
	}
	return f, nil
}

// readPackage parses an RPM's headers. It checks their layout first, and
// recovers from panics of the library.
func readPackage(r io.Reader) (p Package, err error) {
	headers, err := readHeaders(r)
	if err != nil {
		return p, err
	}
	defer recoverPanic(&err)
	read, err := rpm.Read(bytes.NewReader(headers))
	if err != nil {
		return p, fmt.Errorf("%s", text.Line(err.Error()))
	}
	p = Package{
		Name: read.Name(), Version: read.Version(), Release: read.Release(), Arch: read.Architecture(),
		Epoch: read.Epoch(), Signed: isSigned(read), Scriptlets: scriptlets(read),
	}
	return p, p.check()
}

// recoverPanic turns a library's panic on malformed input into an error.
func recoverPanic(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("malformed: %s", text.Line(fmt.Sprint(r)))
	}
}

// validField matches a valid name, version, release or architecture.
var validField = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~^-]{0,254}$`)

func (p Package) check() error {
	for field, value := range map[string]string{"name": p.Name, "version": p.Version, "release": p.Release, "architecture": p.Arch} {
		if !validField.MatchString(value) {
			return fmt.Errorf("%s %q is not valid", field, text.Line(value))
		}
	}
	if p.Epoch < 0 {
		return fmt.Errorf("epoch %d is negative", p.Epoch)
	}
	return nil
}

// isSigned reports whether the signature header has a signature: tag DSA or RSA
// (over the header), PGP or GPG (over header and payload).
func isSigned(p *rpm.Package) bool {
	for _, tag := range []int{267, 268, 1002, 1005} {
		if len(p.Signature.GetTag(tag).Bytes()) > 0 {
			return true
		}
	}
	return false
}

// scriptlets lists the names of the package's scriptlets.
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
