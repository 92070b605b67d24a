// SPDX-License-Identifier: Apache-2.0
//! OOM kills in cgroup v2: `oom_kill` of memory.events, which counts those below the cgroup too.
//!
//! Both memory.events and cgroup.events wake a poll for `POLLPRI` when they change
//! (`kernfs_notify` in fs/kernfs/file.c), so no inotify instance is needed, of which a user has
//! only 128 (containerd #10309). The wake-up of memory.events is held back for up to 10 ms
//! (`cgroup_file_notify`) and may come after that of cgroup.events, so every wake-up makes us look
//! at both. Removing the cgroup wakes nobody.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;
use wedge_sys::{Polled, watch};

use super::kernel_log::KernelLog;
use super::{growth, log_unless_gone, open};
use crate::error::{Error, is_gone};
use crate::hierarchy::unified;
use crate::keyed;

/// How often to look whether an empty cgroup was removed: this long at first, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause between two looks at an empty cgroup.
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// The two files of one cgroup, held open: a cgroup made later under the same name is not ours.
#[derive(Debug)]
pub(super) struct Source {
    memory: Polled<File>,
    cgroup: Polled<File>,
    /// `oom_kill` as last reported.
    seen: Mutex<u64>,
    /// `oom_kill` in the beginning.
    baseline: u64,
    /// Where systemd removes the scope.
    log: Option<KernelLog>,
}

impl Source {
    /// Opens the files of the cgroup `dir` of `pid`.
    pub(super) fn arm(pid: u32, dir: &Path) -> Result<Source, Error> {
        let memory = open(pid, dir, "memory.events")?;
        let cgroup = open(pid, dir, "cgroup.events")?;
        let source = Source::watch(memory, cgroup);
        let source = source.map_err(Error::io("watch", &dir.join("memory.events")))?;
        Ok(Source {
            log: in_a_scope(dir, &unified().point)
                .and_then(|scope| KernelLog::from_now_on(&scope, pid)),
            ..source
        })
    }

    fn watch(memory: File, cgroup: File) -> io::Result<Source> {
        let memory = watch(memory, Interest::PRIORITY)?;
        let cgroup = watch(cgroup, Interest::PRIORITY)?;
        // Only what changes after a read wakes a poll (`kernfs_generic_poll`).
        populated(cgroup.get_ref())?;
        let baseline = kills(memory.get_ref())?;
        Ok(Source { memory, cgroup, seen: Mutex::new(baseline), baseline, log: None })
    }

    /// See [`super::OomMonitor::next`].
    pub(super) async fn next(&self) -> Option<u64> {
        match self.find().await {
            Ok(kills) => Some(kills),
            Err(err) => {
                log_unless_gone(&err);
                None
            }
        }
    }

    async fn find(&self) -> io::Result<u64> {
        let mut pause = FIRST_PAUSE;
        loop {
            // In this order: when the cgroup is empty, all of its kills are counted.
            let populated = populated(self.cgroup.get_ref())?;
            let kills = self.look()?;
            if kills > 0 {
                return Ok(kills);
            }
            if populated {
                pause = FIRST_PAUSE;
            }
            tokio::select! {
                () = sleep(pause), if !populated => pause = LAST_PAUSE.min(pause * 2),
                changed = changed(&self.memory) => changed?,
                changed = changed(&self.cgroup) => changed?,
            }
        }
    }

    /// The kills since the last report. The lock covers the read too, so that concurrent looks
    /// cannot report one kill twice. Nobody else reads the file: who waits for it to change is not
    /// woken for what was read meanwhile (`kernfs_generic_poll`).
    pub(super) fn look(&self) -> io::Result<u64> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = kills(self.memory.get_ref())?;
        Ok(growth(&mut seen, now))
    }

    /// As [`Source::look`]; the kills of a cgroup that is gone are in the kernel's log.
    pub(super) fn look_back(&self) -> io::Result<u64> {
        match (self.look(), &self.log) {
            (Err(err), Some(log)) if is_gone(&err) => {
                let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                let missed = log.kills().saturating_sub(*seen - self.baseline);
                *seen += missed;
                Ok(missed)
            }
            (looked, _) => looked,
        }
    }
}

/// The path of the cgroup `dir` below the mount `point`, if it is a scope or goes with one: crun puts
/// an init below its scope.
fn in_a_scope(dir: &Path, point: &Path) -> Option<String> {
    let below = dir.strip_prefix(point).ok()?.to_str()?;
    below.split('/').any(|name| name.ends_with(".scope")).then(|| format!("/{below}"))
}

/// Waits for a change of `file`. The readiness is cleared before the caller reads: a change in
/// between is not lost.
async fn changed(file: &AsyncFd<File>) -> io::Result<()> {
    file.ready(Interest::PRIORITY).await?.clear_ready();
    Ok(())
}

fn kills(memory: &File) -> io::Result<u64> {
    Ok(keyed::value(&keyed::read(memory)?, "oom_kill").unwrap_or(0))
}

fn populated(cgroup: &File) -> io::Result<bool> {
    Ok(keyed::value(&keyed::read(cgroup)?, "populated") != Some(0))
}

#[cfg(test)]
mod tests;
