// SPDX-License-Identifier: Apache-2.0
//! cgroup v2 on a machine that has v1: a mount namespace of our own, where only v2 is mounted. The
//! controllers stay with v1, so containers must have no limits there.

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

const CGROUP: &str = "/sys/fs/cgroup";

/// Call it before the first thread is started.
pub(crate) fn enter() -> Result<()> {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).context("unshare")?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, private, none).context("make / private")?;
    umount2(CGROUP, MntFlags::MNT_DETACH).context("unmount the v1 cgroups")?;
    mount(Some("cgroup2"), CGROUP, Some("cgroup2"), MsFlags::empty(), none)
        .context("mount cgroup2")?;
    // runc's state is the machine's: containers of v1 and of v2 must not meet.
    std::fs::create_dir_all("/run/containerd")?;
    mount(Some("tmpfs"), "/run/containerd", Some("tmpfs"), MsFlags::empty(), none)
        .context("mount a tmpfs")
}
