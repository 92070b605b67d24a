#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what building and testing Wedge needs and this machine lacks. Debian 12, as root.
#   setup.sh demo   what `make demo` needs
#   setup.sh test   that, and the test runner
set -eu
wanted=${1:?demo or test}

[ "$(id -u)" = 0 ] || { echo "setup: must run as root" >&2; exit 1; }

# Programs by the package that has them.
packages=
need() { command -v "$1" >/dev/null 2>&1 || packages="$packages $2"; }
need containerd containerd
need ctr containerd
need runc runc
need busybox busybox-static
need gcc gcc
[ -e /usr/lib/x86_64-linux-gnu/libc.a ] || packages="$packages libc6-dev"

# Debian's own rustc is too old for edition 2024; its browser toolchain is not.
newest=1.88
have=$(cargo --version 2>/dev/null | cut -d' ' -f2 || true)
if [ -z "$have" ] || [ "$(printf '%s\n%s\n' "$newest" "$have" | sort -V | head -n1)" != "$newest" ]; then
    packages="$packages cargo-web rustc-web"
    [ "$wanted" = demo ] || packages="$packages rustfmt-web rust-clippy-web"
fi

if [ -n "$packages" ]; then
    echo "setup: installing$packages"
    export DEBIAN_FRONTEND=noninteractive
    [ -n "$(find /var/lib/apt/lists -name '*Packages*' -mmin -1440 -print -quit)" ] || apt-get update -qq
    # shellcheck disable=SC2086 # a list of words
    apt-get install -y -qq --no-install-recommends $packages >/dev/null
fi

if [ "$wanted" = test ] && ! command -v cargo-nextest >/dev/null 2>&1 \
    && ! [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo-nextest" ]; then
    echo "setup: installing cargo-nextest (some minutes, once)"
    env -u RUSTFLAGS CARGO_TARGET_DIR="$(mktemp -d)" cargo install --quiet --locked cargo-nextest \
        --config 'build.rustflags=[]'
fi
