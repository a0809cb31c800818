#!/bin/sh
# Builds the firstboot packages: dist/firstboot*.deb and .rpm.
#
#   images/packages/build.sh [DIRECTORY]     default: dist
#
# VERSION (default: git describe) and GOARCH select what is built. BUILD_FLAGS are
# passed to go build; make packages sets them to those of make build. Builds are
# reproducible: file times are the commit's.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(CDPATH='' cd -- "$here/../.." && pwd)
out=${1:-$root/dist}
mkdir -p "$out"
out=$(CDPATH='' cd -- "$out" && pwd)

describe() { git -C "$root" describe --tags --always --dirty --match 'v[0-9]*' 2>/dev/null || echo unknown; }
VERSION=${VERSION:-$(describe)}
# Packages are ordered by version: a commit without a tag must be older than
# every release.
case "$VERSION" in
v[0-9]*) version=${VERSION#v} ;;
[0-9]*.[0-9]*.[0-9]*) version=$VERSION ;;
*) version=0.0.0-dev+$(printf '%s' "$VERSION" | tr -c 'A-Za-z0-9\n' .) ;;
esac
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || date +%s)}
ARCH=${GOARCH:-$(go env GOARCH)}
MAINTAINER=${MAINTAINER:-firstboot <https://github.com/projecteru2/firstboot>}

STAGE=$(mktemp -d)
trap 'rm -rf "$STAGE"' EXIT
trap 'exit 130' INT TERM
mkdir "$STAGE/units" "$STAGE/man" "$STAGE/doc" "$STAGE/doc/docs" "$STAGE/completion"

log() { printf 'packages: %s\n' "$*"; }

log "building firstboot $VERSION for $ARCH"
cd "$root"
eval "set -- ${BUILD_FLAGS:--trimpath}" # BUILD_FLAGS is quoted for a shell
flags="-s -w -X main.linked=$VERSION"
CGO_ENABLED=0 GOOS=linux GOARCH=$ARCH go build "$@" -ldflags "$flags" -o "$STAGE/firstboot" ./cmd/firstboot
# The same program for this machine, with the man page generator.
CGO_ENABLED=0 GOOS='' GOARCH='' go build -tags docs -ldflags "$flags" -o "$STAGE/docs" ./cmd/firstboot

log 'writing man pages, completion and the default configuration'
export SOURCE_DATE_EPOCH
"$STAGE/docs" docs man "$STAGE/man"
gzip -9n "$STAGE"/man/*.1 "$STAGE"/man/*.5
for shell in bash zsh fish; do
	"$STAGE/docs" completion "$shell" >"$STAGE/completion/$shell"
done
cp units/files/firstboot.service units/files/firstboot-complete.target units/files/firstboot-disk.service units/files/firstboot-report.service units/files/firstboot-adapter.socket units/files/firstboot-adapter.service units/files/firstboot-etcd.service units/files/90-firstboot.preset "$STAGE/units/"
{
	printf '# Default configuration: no key is set, so firstboot reports what is missing.\n# Uncomment the keys that you set.\n#\n'
	sed 's/^[^#]/# &/' internal/config/example.yaml
} >"$STAGE/config.yaml"
# The same paths as in the repository, so that relative links work.
mkdir -p "$STAGE/doc/internal/config" "$STAGE/doc/images/golden"
cp README.md CONTRIBUTING.md SECURITY.md LICENSE "$STAGE/doc/"
cp docs/*.md "$STAGE/doc/docs/"
cp internal/config/example.yaml "$STAGE/doc/internal/config/"
cp -R images/golden/mkosi images/golden/packer images/golden/virt-customize "$STAGE/doc/images/golden/"
chmod -R u=rwX,go=rX "$STAGE/doc"

find "$STAGE" -exec touch -d "@$SOURCE_DATE_EPOCH" {} +

export STAGE ARCH MAINTAINER
cd "$here"
for kind in deb rpm; do
	log "building the .$kind package"
	# nfpm runs on this machine, whatever the packages are for.
	VERSION=$version GOOS='' GOARCH='' go tool nfpm package --config nfpm.yaml --packager "$kind" --target "$out" >"$STAGE/nfpm.log" 2>&1 || {
		cat "$STAGE/nfpm.log" >&2
		echo "cannot build the .$kind package" >&2
		exit 1
	}
	sed -n 's/^created package: /packages: /p' "$STAGE/nfpm.log"
done
