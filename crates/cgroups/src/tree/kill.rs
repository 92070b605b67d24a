// SPDX-License-Identifier: Apache-2.0
//! A signal for everybody.

use std::collections::HashSet;
use std::fs;

use wedge_sys::PidFd;

use super::freezer::write;
use super::{Kind, Tree};
use crate::error::{Error, ErrorKind, is_gone};
use crate::keyed;

impl Tree {
    /// Sends `signal` to every process in it and below. Returns whether there was one. Nobody is in
    /// a tree that is gone.
    ///
    /// # Errors
    /// [`Error::Io`] when the processes cannot be listed.
    pub async fn signal(&self, signal: i32) -> Result<bool, Error> {
        if let Kind::V2(path) = &self.0
            && signal == libc::SIGKILL
        {
            let events = fs::read_to_string(path.join("cgroup.events")).unwrap_or_default();
            match write(&path.join("cgroup.kill"), "1") {
                // Linux before 5.14, or no cgroup.
                Err(Error::Io { source, .. }) if is_gone(&source) => {}
                written => return written.map(|()| keyed::value(&events, "populated") == Some(1)),
            }
        }
        let frozen = self.is_frozen();
        // So that nobody forks or leaves meanwhile. If it cannot be done, most are reached still.
        if !frozen && let Err(err) = self.freeze().await {
            if err.kind() == ErrorKind::Gone {
                return Ok(false);
            }
            log::warn!("{err} to signal all of its processes: {:?}", self.0);
        }
        let signalled = self.signal_each(signal).await;
        // One that was frozen before stays so, unless that would keep its processes from dying.
        if !frozen || signal == libc::SIGKILL {
            self.thaw()?;
        }
        signalled
    }

    /// A pid may be another process's by the time it is opened. So only those are signalled that
    /// are still listed when they are held: who has got such a pid then is in the tree, or gone.
    async fn signal_each(&self, signal: i32) -> Result<bool, Error> {
        let pids = self.pids().await?;
        let held: Vec<(u32, PidFd)> =
            pids.into_iter().filter_map(|pid| Some((pid, PidFd::open(pid).ok()?))).collect();
        let listed: HashSet<u32> = self.pids().await?.into_iter().collect();
        let mut any = false;
        for (pid, pidfd) in held.iter().filter(|(pid, _)| listed.contains(pid)) {
            match pidfd.send_signal(signal) {
                Ok(()) => any = true,
                Err(err) => log::debug!(pid = *pid; "not signalled: {err}"),
            }
        }
        Ok(any)
    }
}
