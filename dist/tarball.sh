#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Packs what `make install` would install, from what was built: the same bytes for the same input.
# The tree in it is that of a PREFIX:
#   tar --directory /usr/local --strip-components 1 --extract --file wedge-VERSION-TARGET.tar.gz
# Usage: tarball.sh TARGET DIRECTORY
set -eu
target=${1:?target} out=${2:?directory}
: "${SOURCE_DATE_EPOCH:?the time of the files}"
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n1)
name=wedge-$version-$target

mkdir -p "$out"
# Those of other versions.
rm -f "$out"/wedge-*.tar.gz
out=$(cd "$out" && pwd)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
make --silent --assume-old=build install DESTDIR="$stage" PREFIX="/$name" >/dev/null
install -m 0644 target/dist/wedge.cdx.json "$stage/$name/share/doc/wedge/licenses/wedge.cdx.json"
# Whatever the umask was.
find "$stage/$name" -type d -exec chmod 0755 {} +
tar --directory "$stage" --create --format=ustar --sort=name --mtime="@$SOURCE_DATE_EPOCH" \
    --owner=0 --group=0 --numeric-owner "$name" | gzip --no-name --best >"$out/$name.tar.gz"

# Of every package in the directory.
cd "$out"
find . -maxdepth 1 -type f ! -name SHA256SUMS -printf '%P\n' | LC_ALL=C sort |
    xargs sha256sum >SHA256SUMS
