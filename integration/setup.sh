#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what building and testing Wedge needs and this machine lacks. Debian 12, as root.
# Does nothing the second time.
#   setup.sh demo   what `make demo` needs
#   setup.sh test   that, the formatter and the test runner
set -eu
wanted=${1:?demo or test}

# Debian's own rustc is too old for edition 2024; the one it has for browsers is not.
rust=1.88
nextest=0.9.143

[ "$(id -u)" = 0 ] || { echo "setup: must run as root" >&2; exit 1; }

rust_is_new_enough() {
    have=$(cargo --version 2>/dev/null | cut -d' ' -f2)
    [ -n "$have" ] && [ "$(printf '%s\n' "$rust" "$have" | sort -V | head -n1)" = "$rust" ]
}

packages=
need() { packages="$packages $1"; }
has() { command -v "$1" >/dev/null 2>&1; }
{ has containerd && has ctr; } || need containerd
has runc || need runc
has busybox || need busybox-static
# The static link needs a linker and libc.a.
has gcc || need gcc
[ -e /usr/lib/x86_64-linux-gnu/libc.a ] || need libc6-dev
# cargo fetches crates over TLS.
[ -e /etc/ssl/certs/ca-certificates.crt ] || need ca-certificates
rust_is_new_enough || need "cargo-web rustc-web"
[ "$wanted" = demo ] || cargo fmt --version >/dev/null 2>&1 || need rustfmt-web

if [ -n "$packages" ]; then
    echo "setup: installing$packages"
    export DEBIAN_FRONTEND=noninteractive
    fresh=$(find /var/lib/apt/lists -name '*Packages*' -mmin -1440 -print -quit 2>/dev/null)
    [ -n "$fresh" ] || apt-get update -qq
    # shellcheck disable=SC2086 # a list of words
    apt-get install -y -qq --no-install-recommends $packages >/dev/null
    rust_is_new_enough || {
        echo "setup: $(command -v cargo) is too old: Rust $rust or newer is needed" >&2
        exit 1
    }
fi

if [ "$wanted" = test ] && ! cargo nextest --version >/dev/null 2>&1; then
    echo "setup: installing cargo-nextest (some minutes, once)"
    # Elsewhere, because the checkout's .cargo/config.toml asks for static programs.
    (cd / && env -u RUSTFLAGS -u CARGO_TARGET_DIR \
        cargo install --quiet --locked cargo-nextest --version "$nextest")
fi
