// SPDX-License-Identifier: Apache-2.0
//! From a process to the directories of its cgroups.

use std::collections::HashMap;
use std::error::Error as _;
use std::io;
use std::path::{Component, Path, PathBuf};

use cgroups_rs::fs::cgroup::get_cgroups_relative_paths_by_pid;

use crate::error::{Error, is_gone};
use crate::hierarchy::Mount;

/// What the kernel appends in `/proc/<pid>/cgroup` when the cgroup was removed (cgroups(7)).
const DELETED: &str = " (deleted)";

/// The cgroups of a process, by controller as in `/proc/<pid>/cgroup`; the unified one is "".
#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) pid: u32,
    paths: HashMap<String, String>,
}

impl Membership {
    /// Reads them.
    ///
    /// # Errors
    /// [`Error::Gone`] when the process does not exist.
    pub(crate) fn of(pid: u32) -> Result<Membership, Error> {
        let paths = get_cgroups_relative_paths_by_pid(pid).map_err(|source| {
            let cause = source.source().and_then(|cause| cause.downcast_ref::<io::Error>());
            match cause {
                Some(err) if is_gone(err) => Error::Gone { pid },
                _ => Error::Membership { pid, source },
            }
        })?;
        Ok(Membership { pid, paths })
    }

    /// The directory of its cgroup in the hierarchy of `controller`, which is mounted at `mount`.
    /// `None` when the kernel does not know the controller.
    ///
    /// # Errors
    /// [`Error::Gone`] when that cgroup was removed, [`Error::NotOwn`] when it is the root.
    pub(crate) fn directory(
        &self,
        controller: &str,
        mount: &Mount,
    ) -> Result<Option<PathBuf>, Error> {
        let Some(path) = self.paths.get(controller) else { return Ok(None) };
        if path.ends_with(DELETED) {
            return Err(Error::Gone { pid: self.pid });
        }
        let found = directory(mount, Path::new(path));
        found.map(Some).ok_or_else(|| Error::NotOwn { pid: self.pid, path: path.clone() })
    }
}

/// Where the cgroup `path` (as in `/proc/<pid>/cgroup`) is below `mount`. `None` for the root, and
/// for a path that leads out of the cgroup namespace ("/../x").
///
/// The root is refused because nothing there can be the container's: it has no limit, and v1 puts
/// a process that is exiting there (`proc_cgroup_show` in kernel/cgroup/cgroup.c).
fn directory(mount: &Mount, path: &Path) -> Option<PathBuf> {
    let below = path.strip_prefix(&mount.root).or_else(|_| path.strip_prefix("/")).ok()?;
    let plain = below.components().all(|part| matches!(part, Component::Normal(_)));
    let root = path == Path::new("/");
    (plain && !root).then(|| mount.point.join(below))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_below_its_mount() {
        let table = [
            ("/", "/default/c1", Some("/m/default/c1")),
            ("/", "/a:b/c d", Some("/m/a:b/c d")),
            // A part of the hierarchy is mounted: the prefix goes, once.
            ("/docker/1", "/docker/1/docker/1/x", Some("/m/docker/1/x")),
            ("/docker/1", "/docker/1", Some("/m")),
            ("/docker/1", "/docker/12/x", Some("/m/docker/12/x")),
            ("/docker/1", "/other/x", Some("/m/other/x")),
            // The root, and outside of the cgroup namespace.
            ("/", "/", None),
            ("/docker/1", "/", None),
            ("/", "/../x", None),
            ("/", "", None),
        ];
        for (root, path, expected) in table {
            let mount = Mount { point: PathBuf::from("/m"), root: PathBuf::from(root) };
            let found = directory(&mount, Path::new(path));
            assert_eq!(found.as_deref(), expected.map(Path::new), "{path} below {root}");
        }
    }
}
