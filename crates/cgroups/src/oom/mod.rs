// SPDX-License-Identifier: Apache-2.0
//! Tells when the kernel's OOM killer has struck in a container.
//!
//! Both sources compare the kernel's `oom_kill` counter with what was reported last; whatever
//! woke them is only a reason to look. So pressure, a reached limit or a removed cgroup is never
//! taken for a kill (containerd #6323), and a kill that no wake-up announced yet is found by
//! [`OomMonitor::last_read`] (containerd #12405). The kernel counts a kill before it sends the
//! signal (`__oom_kill_process` in mm/oom_kill.c): once the victim was reaped, it is counted. When
//! systemd has removed the cgroup by then, the kernel's log is asked.

mod kernel_log;
mod v1;
mod v2;

use std::fs::File;
use std::io;
use std::path::Path;

use crate::cgroup::Cgroup;
use crate::error::{Error, is_gone};
use crate::hierarchy::Mode;

/// Watches the memory cgroup of one container. Two descriptors (three in a scope of systemd), no
/// thread, no inotify instance; dropping it releases all of it (containerd #3949, #5670).
#[derive(Debug)]
pub struct OomMonitor(Source);

#[derive(Debug)]
enum Source {
    V1(v1::Source),
    V2(v2::Source),
}

impl OomMonitor {
    /// Starts to watch the memory cgroup among those of `pid`. Kills before this call are never
    /// reported, so call it before the container's own program runs. Once per container, never for
    /// an exec.
    ///
    /// # Errors
    /// See [`Error::kind`]; in every case nothing stays open.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time enabled.
    pub fn arm(pid: u32, cgroup: &Cgroup) -> Result<OomMonitor, Error> {
        let (dir, mode) = cgroup.memory_directory().ok_or(Error::NoMemoryController { pid })?;
        Ok(OomMonitor(match mode {
            Mode::Legacy => Source::V1(v1::Source::arm(pid, dir)?),
            Mode::Unified => Source::V2(v2::Source::arm(pid, dir)?),
        }))
    }

    /// Waits until processes were killed, and tells how many since the last report (at least 1).
    /// `None` when the cgroup is gone: there will be no more. Dropping the future loses nothing.
    pub async fn next(&self) -> Option<u64> {
        match &self.0 {
            Source::V1(source) => source.next().await,
            Source::V2(source) => source.next().await,
        }
    }

    /// The kills that were not reported yet, without waiting; 0 when there are none, or the cgroup
    /// is gone and nothing else tells of them. They count as reported then. That of a process which was reaped is among them.
    pub fn unreported(&self) -> u64 {
        none_if_gone(match &self.0 {
            Source::V1(source) => source.peek(),
            Source::V2(source) => source.look_back(),
        })
    }

    /// As [`OomMonitor::unreported`], when there will be no more: the container's init was reaped,
    /// and maybe its cgroup is gone.
    pub fn last_read(&self) -> u64 {
        none_if_gone(match &self.0 {
            Source::V1(source) => source.look(),
            Source::V2(source) => source.look_back(),
        })
    }
}

fn none_if_gone(kills: io::Result<u64>) -> u64 {
    kills.unwrap_or_else(|err| {
        log_unless_gone(&err);
        0
    })
}

/// Opens `name` in `dir` for reading; without it the cgroup of `pid` has no memory controller.
fn open(pid: u32, dir: &Path, name: &str) -> Result<File, Error> {
    let path = dir.join(name);
    File::open(&path).map_err(|source| {
        if source.kind() == io::ErrorKind::NotFound && dir.is_dir() {
            return Error::NoMemoryController { pid };
        }
        Error::Io { operation: "open", path, source }
    })
}

/// By how much the counter `now` exceeds the one `seen`, which it replaces.
fn growth(seen: &mut u64, now: u64) -> u64 {
    let grown = now.saturating_sub(*seen);
    *seen = now;
    grown
}

/// A removed cgroup is the normal end of a monitor. Anything else also ends it, and has no caller
/// who could be told.
fn log_unless_gone(err: &io::Error) {
    if !is_gone(err) {
        log::warn!("failed to read the OOM kills of a container: {err}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_is_reported_once() {
        let mut seen = 4;
        assert_eq!([4, 5, 5, 9, 9].map(|now| growth(&mut seen, now)), [0, 1, 0, 4, 0]);
    }

    #[test]
    fn a_monitor_can_be_moved_and_shared_between_tasks() {
        fn shared<T: Send + Sync>(_: &T) {}
        fn sent<T: Send>(_: T) {}
        fn check(monitor: &OomMonitor) {
            shared(monitor);
            sent(monitor.next());
        }
        let _: fn(&OomMonitor) = check;
    }
}
