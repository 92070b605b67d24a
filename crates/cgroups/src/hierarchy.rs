// SPDX-License-Identifier: Apache-2.0
//! Which kind of cgroups this machine has, and where they are mounted.

use std::path::PathBuf;

use cgroups_rs::fs::Controllers;
use cgroups_rs::fs::hierarchies::{self, UNIFIED_MOUNTPOINT, V1};

/// How the resource controllers are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// cgroup v2 alone, at /sys/fs/cgroup.
    Unified,
    /// cgroup v1, with or without a v2 tree beside it ("hybrid") that has no controllers.
    Legacy,
}

/// Finds the mode by the file system at /sys/fs/cgroup, statfs(2), as containerd does.
pub fn mode() -> Mode {
    if hierarchies::is_cgroup2_unified_mode() { Mode::Unified } else { Mode::Legacy }
}

/// A mounted hierarchy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Where it is mounted.
    pub(crate) point: PathBuf,
    /// The cgroup that is visible there: "/", or another one where a part is bind-mounted, as in
    /// a container without a cgroup namespace.
    pub(crate) root: PathBuf,
}

/// The v2 mount of [`Mode::Unified`].
pub(crate) fn unified() -> Mount {
    Mount { point: PathBuf::from(UNIFIED_MOUNTPOINT), root: PathBuf::from("/") }
}

/// The v1 mounts of this machine, read once.
#[derive(Debug)]
pub(crate) struct Legacy(V1);

impl Legacy {
    pub(crate) fn find() -> Legacy {
        Legacy(V1::new())
    }

    /// Where `controller` is mounted.
    pub(crate) fn mount(&self, controller: Controllers) -> Option<Mount> {
        let (point, root) = self.0.get_mount_point(controller)?;
        Some(Mount { point, root })
    }
}
