// SPDX-License-Identifier: Apache-2.0
//! `delete` of a container that has stopped.

use std::fs;
use std::io;

use crate::container::Container;
use crate::crun;
use crate::dialect::Dialect;
use crate::error::{Failure, Unsupported, chain};
use crate::state::{State, start_time};

impl Container {
    /// Removes the cgroups and the runtime's directory of the container, whose init was reaped. As far as
    /// that was done before, it is done.
    ///
    /// # Errors
    /// Only [`Failure::Unsupported`]: what is left is the runtime's to remove, or to complain about.
    pub async fn delete(&self) -> Result<(), Failure> {
        if let Some(reason) = self.not_deleted {
            return Err(Unsupported::new(reason).into());
        }
        self.check_stopped()?;
        if !self.private_pids
            && let Err(err) = self.cgroups.signal(libc::SIGKILL).await
        {
            log::info!(id = self.id.as_str(); "failed to kill what is left: {}", chain(&err));
        }
        let removed = self.cgroups.remove().await;
        removed.map_err(|err| Unsupported::new(chain(&err)))?;
        match fs::remove_dir_all(&self.directory) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => {
                Err(Unsupported::new(format!("{}: {err}", self.directory.display())).into())
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// A directory may be a mount, which crun takes off before it looks inside.
    fn has_only_files(&self) -> bool {
        let is_file = |entry: io::Result<fs::DirEntry>| {
            entry.and_then(|entry| entry.file_type()).is_ok_and(|kind| !kind.is_dir())
        };
        fs::read_dir(&self.directory).is_ok_and(|mut entries| entries.all(is_file))
    }

    /// This is the one command that cannot be undone: whose state it is is read once more.
    fn check_stopped(&self) -> Result<(), Unsupported> {
        let dialect = self.dialect;
        let unread = |err| Unsupported::new(format!("{dialect}'s state cannot be read: {err}"));
        let directory = self.open()?;
        let recorded = match dialect {
            Dialect::Runc => {
                let state: State = directory.state(dialect).map_err(unread)?;
                (state.init_process_pid, state.init_process_start)
            }
            Dialect::Crun => {
                let status: crun::Status = directory.state(dialect).map_err(unread)?;
                (status.pid, status.start)
            }
        };
        if recorded != (self.pid, self.start) {
            return Err(Unsupported::new(format!("{dialect}'s state is of another container")));
        }
        if start_time(self.pid).is_ok_and(|time| time == self.start) {
            return Err(Unsupported::new("its init has not been reaped"));
        }
        if dialect == Dialect::Crun && !self.has_only_files() {
            return Err(Unsupported::new("crun's directory has more than files"));
        }
        // Paused comes before stopped, and runc does not delete what is paused; crun does.
        if dialect == Dialect::Runc && self.cgroups.is_frozen() {
            return Err(Unsupported::new("its cgroup is frozen"));
        }
        Ok(())
    }
}
