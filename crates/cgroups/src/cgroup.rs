// SPDX-License-Identifier: Apache-2.0
//! Where a container's cgroups are.

use std::path::{Path, PathBuf};

use cgroups_rs::fs::Controllers;

use crate::error::Error;
use crate::hierarchy::{Legacy, Mode, mode, unified};
use crate::memory::MemoryUse;
use crate::path::Membership;
use crate::stats::{Stats, v1, v2};

/// The cgroups a container was created in. Paths only: nothing here keeps a cgroup from being
/// removed, and all of it can still be asked when the container is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup(Directories);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Directories {
    /// One for each controller.
    V1(v1::Directories),
    V2(PathBuf),
}

impl Cgroup {
    /// Finds the cgroups of `pid`. Call it once, while the container's init waits to be started:
    /// a process that has exited is in no cgroup of its own any more, and a running one may move.
    ///
    /// # Errors
    /// [`Error::Gone`] when the process does not exist, [`Error::NotOwn`] when it is in the root
    /// of every hierarchy.
    pub fn of(pid: u32) -> Result<Cgroup, Error> {
        let membership = Membership::of(pid)?;
        let directories = match mode() {
            Mode::Legacy => Directories::V1(legacy(&membership)?),
            Mode::Unified => {
                let directory = membership.directory("", &unified())?;
                Directories::V2(directory.ok_or(Error::Gone { pid })?)
            }
        };
        Ok(Cgroup(directories))
    }

    /// What its controllers have counted. A file that is missing counts as nothing, so of a
    /// removed cgroup everything is 0.
    pub fn stats(&self) -> Stats {
        let root = Path::new("/");
        match &self.0 {
            Directories::V1(directories) => Stats::V1(v1::read(directories, root)),
            Directories::V2(directory) => Stats::V2(v2::read(directory, root)),
        }
    }

    /// The directory that the memory controller counts in, and of which version it is.
    pub(crate) fn memory_directory(&self) -> Option<(&Path, Mode)> {
        match &self.0 {
            Directories::V1(directories) => {
                directories.memory.as_deref().map(|directory| (directory, Mode::Legacy))
            }
            Directories::V2(directory) => Some((directory, Mode::Unified)),
        }
    }

    /// Its memory limit and peak; two small files are read.
    pub fn memory(&self) -> MemoryUse {
        match &self.0 {
            Directories::V1(directories) => {
                directories.memory.as_deref().map(MemoryUse::v1).unwrap_or_default()
            }
            Directories::V2(directory) => MemoryUse::v2(directory),
        }
    }
}

/// A hierarchy in which the process is in the root has nothing of the container's.
fn legacy(membership: &Membership) -> Result<v1::Directories, Error> {
    let mounts = Legacy::find();
    let find = |controller: Controllers| {
        let name = controller.to_string();
        let Some(mount) = mounts.mount(controller) else { return Ok(None) };
        match membership.directory(&name, &mount) {
            Err(Error::NotOwn { .. }) => Ok(None),
            found => found,
        }
    };
    let directories = v1::Directories {
        pids: find(Controllers::Pids)?,
        cpu: find(Controllers::Cpu)?,
        cpuacct: find(Controllers::CpuAcct)?,
        memory: find(Controllers::Mem)?,
        blkio: find(Controllers::BlkIo)?,
        rdma: find(Controllers::Rdma)?,
        hugetlb: find(Controllers::HugeTlb)?,
    };
    if directories == v1::Directories::default() {
        return Err(Error::NotOwn { pid: membership.pid, path: "/".to_owned() });
    }
    Ok(directories)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_process_that_does_not_exist_is_gone() {
        assert_eq!(Cgroup::of(u32::MAX).unwrap_err().kind(), ErrorKind::Gone);
    }
}
