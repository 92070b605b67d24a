// SPDX-License-Identifier: Apache-2.0
//! What can go wrong when a cgroup is looked up or watched.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error as ThisError;

/// An error of this crate.
#[derive(Debug, ThisError)]
#[expect(clippy::error_impl_error, reason = "one error per crate, named by its path")]
pub enum Error {
    /// The process, or the cgroup it was in, does not exist any more.
    #[error("process {pid} or its cgroup is gone")]
    Gone {
        /// The process asked about.
        pid: u32,
    },
    /// The memory controller is not mounted, or not enabled for the cgroup of the process.
    #[error("no memory controller for the cgroup of process {pid}")]
    NoMemoryController {
        /// The process asked about.
        pid: u32,
    },
    /// The process is in the root of the hierarchy, or above what this process can see of it.
    #[error("process {pid} is in cgroup {path:?}, not in one of its own")]
    NotOwn {
        /// The process asked about.
        pid: u32,
        /// Its cgroup as the kernel names it.
        path: String,
    },
    /// The list of cgroups of a process cannot be read.
    #[error("failed to read the cgroups of process {pid}")]
    Membership {
        /// The process asked about.
        pid: u32,
        /// The error of cgroups-rs.
        source: cgroups_rs::fs::error::Error,
    },
    /// The OCI runtime has recorded no cgroup of this controller; empty is that of v2.
    #[error("no cgroup of the controller {controller:?} is recorded")]
    NotRecorded {
        /// The controller asked for.
        controller: &'static str,
    },
    /// What the OCI runtime has recorded is not a cgroup of the container's own.
    #[error("{path:?} is not a cgroup below the root of its hierarchy")]
    NotBelowRoot {
        /// The path.
        path: PathBuf,
    },
    /// Some process did not freeze.
    #[error("unable to freeze")]
    NotFrozen,
    /// A call on a file failed.
    #[error("failed to {operation} {path:?}")]
    Io {
        /// The verb: "open", "read", …
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the call.
        source: io::Error,
    },
}

/// What a caller may want to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is nothing left to look at: the process has ended or its cgroup was removed.
    Gone,
    /// The machine, or the container's configuration, offers nothing to watch.
    Unsupported,
    /// Anything else.
    Other,
}

impl Error {
    /// The class of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Gone { .. } => ErrorKind::Gone,
            Error::NoMemoryController { .. }
            | Error::NotOwn { .. }
            | Error::NotRecorded { .. }
            | Error::NotBelowRoot { .. } => ErrorKind::Unsupported,
            Error::Io { source, .. } if is_gone(source) => ErrorKind::Gone,
            Error::Membership { .. } | Error::NotFrozen | Error::Io { .. } => ErrorKind::Other,
        }
    }

    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { operation, path: path.to_owned(), source }
    }
}

/// Whether `err` says that the file's cgroup, or the process, was removed: `ENOENT` by path,
/// `ENODEV` through a descriptor that is still open (`kernfs_get_active` in fs/kernfs/dir.c),
/// `ESRCH` from procfs.
pub(crate) fn is_gone(err: &io::Error) -> bool {
    matches!(err.raw_os_error(), Some(libc::ENOENT | libc::ENODEV | libc::ESRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_kind() {
        let io = |errno| Error::io("read", Path::new("/x"))(io::Error::from_raw_os_error(errno));
        let table = [
            (Error::Gone { pid: 1 }, ErrorKind::Gone),
            (Error::NoMemoryController { pid: 1 }, ErrorKind::Unsupported),
            (Error::NotOwn { pid: 1, path: "/".to_owned() }, ErrorKind::Unsupported),
            (io(libc::ENOENT), ErrorKind::Gone),
            (io(libc::ENODEV), ErrorKind::Gone),
            (io(libc::EACCES), ErrorKind::Other),
        ];
        for (error, kind) in table {
            assert_eq!(error.kind(), kind, "{error}");
        }
    }
}
