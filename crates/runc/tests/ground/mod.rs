// SPDX-License-Identifier: Apache-2.0
//! Where crun runs: with cgroup v2 alone, and where it may lift the limit of locked memory or does
//! not have to. Test machines often have neither. Tests of several crates include this file.
#![expect(clippy::expect_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// A library that ignores that one failure.
const MEMLOCK: &str = include_str!("../../../../integration/src/bin/wedge-bench/memlock.c");
const CGROUP: &str = "/sys/fs/cgroup";

/// Gives this thread, and those it starts from now on, a mount namespace with cgroup v2 alone, which
/// has no controllers where v1 has them. Nothing of it shows on the host.
pub(crate) fn enter() {
    const NONE: Option<&str> = None;
    if Path::new(CGROUP).join("cgroup.controllers").exists() {
        return;
    }
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).expect("private mounts");
    umount2(CGROUP, MntFlags::MNT_DETACH).expect("the cgroups of v1 are unmounted");
    mount(Some("cgroup2"), CGROUP, Some("cgroup2"), MsFlags::empty(), NONE).expect("cgroup v2");
}

/// The library crun needs in its `LD_PRELOAD`, made in `dir`, if it needs one.
pub(crate) fn preload(dir: &Path) -> Option<PathBuf> {
    const SYS_RESOURCE: u64 = 1 << 24;
    let status = fs::read_to_string("/proc/self/status").expect("a status");
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    if effective.is_some_and(|mask| mask & SYS_RESOURCE != 0) {
        return None;
    }
    let (source, library) = (dir.join("memlock.c"), dir.join("memlock.so"));
    fs::write(&source, MEMLOCK).expect("a file");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(source);
    #[expect(clippy::disallowed_methods, reason = "there is no reaper yet")]
    let made = cc.status().expect("cc");
    assert!(made.success(), "{made}");
    Some(library)
}
