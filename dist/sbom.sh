#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Writes a bill of materials (CycloneDX 1.5) of the shim's binary: the crates that cargo links for
# TARGET, by cargo's own account, and the C libraries it takes from Debian. The same input gives the
# same bytes.
#   sbom.sh TARGET FILE
set -eu
target=${1:?target} file=${2:?file}
cd "$(dirname "$0")/.."
mkdir -p "$(dirname "$file")"

# NAME vVERSION (SOURCE) LICENCE, a line each; what is in this checkout has a path for a source.
crates() {
    cargo tree --locked --package containerd-shim-wedge-v2 --target "$target" \
        --edges normal,no-proc-macro --prefix none --no-dedupe --format '{p}	{l}' |
        sed -e 's/ (\/[^)]*)	/ (path)	/' -e 's/ (proc-macro)//' | LC_ALL=C sort -u
    # The helper is embedded as a program: it is not in the tree of the shim.
    cargo tree --locked --package wedge-setns-helper --target "$target" --all-features \
        --edges normal,no-proc-macro --prefix none --no-dedupe --format '{p}	{l}' |
        sed -e 's/ (\/[^)]*)	/ (path)	/' -e 's/ (proc-macro)//' | LC_ALL=C sort -u
}

libraries() {
    dpkg-query --show --showformat='${source:Package}	${Version}	LGPL-2.1-only\n' libseccomp-dev
    dpkg-query --show --showformat='${source:Package}	${Version}	LGPL-2.1-or-later\n' libc6-dev
}

{
    crates | LC_ALL=C sort -u | jq --raw-input --compact-output '
        capture("^(?<name>[^ ]+) v(?<version>[^ \t]+)(?<path> \\(path\\))?\t(?<license>.*)$")
        | . + {purl: "pkg:cargo/\(.name)@\(.version)"}'
    libraries | jq --raw-input --compact-output '
        split("\t") | {name: .[0], version: .[1], license: .[2]}
        | . + {purl: "pkg:deb/debian/\(.name)@\(.version | @uri)?arch=source"}'
} | jq --slurp --sort-keys '
    def component: {
        type: "library", "bom-ref": .purl, name, version, purl,
        licenses: [{expression: (.license | gsub("/"; " OR "))}]
    };
    (map(select(.name == "containerd-shim-wedge-v2")) | first) as $shim
    | {
        bomFormat: "CycloneDX", specVersion: "1.5", version: 1,
        metadata: {
            timestamp: (env.SOURCE_DATE_EPOCH | tonumber | todate),
            component: ($shim | component | .type = "application")
        },
        components: map(select(. != $shim) | component)
    }' >"$file.new"
mv "$file.new" "$file"
