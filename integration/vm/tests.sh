#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# tests.sh - run tests in a VM that has cgroup v2 only (vm.sh), as they are built here.
#
#     tests.sh PROFILE [ARG...]
#
# PROFILE is one of .config/nextest.toml whose name begins with "vm": it says which tests. In a
# profile whose name ends with "-systemd", systemd is PID 1, and makes the cgroups of pods; with
# "-affinity", there are four CPUs, of which three are isolated. The rest goes to `cargo nextest run`.
# Exit code and output are those of nextest. The kernel's log is kept in console-PROFILE of the cache.
#
# Environment: VM_TIMEOUT, seconds (1500); WEDGE_LONG, WEDGE_TEST_DEBUG as in docs/testing.md.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

profile=${1:?a profile of .config/nextest.toml}
shift
options=()
[[ $profile == *-systemd ]] && options+=(--systemd --env WEDGE_TEST_CGROUPS=systemd)
[[ $profile == *-affinity ]] && options+=(--cpus 4 --append nohz_full=1-3)
# The VM has its own, which would hide the checkout.
[[ $PWD == /tmp/* || $PWD == /run/* ]] && options+=(--share "$PWD:ro")
export VM_CACHE=${VM_CACHE:-target/vm}

# The kernel is one that apt knows of, which it may not yet, or no more.
if ! integration/vm/vm.sh --prepare; then
    apt-get update -qq
    rm -f "$VM_CACHE/default"
    integration/vm/vm.sh --prepare
fi

# What is to be run, so that nothing in the VM asks cargo.
built=target/vm/built
mkdir -p "$built"
cargo nextest list --locked --workspace --list-type binaries-only --message-format json \
    >"$built/binaries.json"
cargo metadata --locked --format-version 1 >"$built/metadata.json"

# Pages of a tmpfs, which is where the VM writes, cannot be reclaimed: some tests need the disk.
# Limits are five times as long as on a machine that is not emulated.
exec integration/vm/vm.sh --cpus 2 --memory 3072 --disk 1G --timeout "${VM_TIMEOUT:-1500}" \
    --console "$VM_CACHE/console-$profile" \
    --env WEDGE_TEST_VM=1 --env WEDGE_TEST_SLOW=5 --env WEDGE_TEST_DISK=/scratch \
    --env WEDGE_LONG --env WEDGE_TEST_DEBUG --env SHIM_UNDER_TEST --env CARGO_TERM_COLOR \
    "${options[@]}" -- "$(command -v cargo-nextest)" nextest run --profile "$profile" \
    --cargo-metadata "$built/metadata.json" --binaries-metadata "$built/binaries.json" "$@"
