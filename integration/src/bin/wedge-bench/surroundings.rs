// SPDX-License-Identifier: Apache-2.0
//! A mount namespace of our own, as a node has it and a test machine may not: `/run/containerd` on a
//! tmpfs, cgroup v2 if asked for (without controllers, which stay with v1: containers must have no
//! limits there), and tracefs. Nothing of it shows on the host.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

const CGROUP: &str = "/sys/fs/cgroup";
/// Where runc keeps its state, and shims their sockets.
const CONTAINERD: &str = "/run/containerd";
const TRACING: &str = "/sys/kernel/tracing";
/// Names the place for bundles to the harness.
const DIRECTORY: &str = "WEDGE_TEST_DIR";
const NONE: Option<&str> = None;

/// Whether this machine has cgroup v2 and nothing else.
pub(crate) fn is_unified() -> bool {
    Path::new(CGROUP).join("cgroup.controllers").exists()
}

/// Starts this program again where `/run` is on a disk, with bundles on a tmpfs: removing a file of
/// ext4 takes longer than an exec.
pub(crate) fn settle() -> Result<()> {
    if on_tmpfs("/run") || !on_tmpfs("/dev/shm") || std::env::var_os(DIRECTORY).is_some() {
        return Ok(());
    }
    let mut again = Command::new(std::env::current_exe()?);
    again.args(std::env::args_os().skip(1)).env(DIRECTORY, "/dev/shm/wedge-test");
    Err(again.exec()).context("starting again")
}

/// Enters the namespace. Call it before the first thread is started.
pub(crate) fn enter(unified: bool) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("unshare")?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)
        .context("make / private")?;
    if unified && !is_unified() {
        umount2(CGROUP, MntFlags::MNT_DETACH).context("unmount the v1 cgroups")?;
        new("cgroup2", CGROUP)?;
    }
    // runc's state is the machine's: containers of v1 and of v2 must not meet.
    if unified || !on_tmpfs("/run") {
        std::fs::create_dir_all(CONTAINERD)?;
        new("tmpfs", CONTAINERD)?;
    }
    if !Path::new(TRACING).join("instances").exists() {
        // Kernels without it are measured without it.
        new("tracefs", TRACING).ok();
    }
    Ok(())
}

fn new(kind: &str, at: &str) -> Result<()> {
    mount(Some(kind), at, Some(kind), MsFlags::empty(), NONE)
        .with_context(|| format!("mount {kind} at {at}"))
}

fn on_tmpfs(path: &str) -> bool {
    statfs(path).is_ok_and(|fs| fs.filesystem_type() == TMPFS_MAGIC)
}
