// SPDX-License-Identifier: Apache-2.0
//! OOM kills in cgroup v1: an eventfd on memory.oom_control (cgroup-v1/memory.rst, section 10).
//!
//! The kernel signals the eventfd *before* it kills, also when the OOM killer is disabled or finds
//! nothing to kill, and once more when the cgroup is removed. It signals every cgroup below the
//! one that ran out of memory, but counts the kill only in the cgroup of the victim, which may be
//! one that the container made itself, as Docker in Docker does.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::io::Interest;
use tokio::time::sleep;
use wedge_sys::{Polled, watch};

use super::{growth, log_unless_gone, open};
use crate::error::Error;
use crate::keyed;

/// The pauses, in milliseconds, between looks for the kill after its notification: 988 in all.
const PAUSES: [u64; 10] = [1, 2, 5, 10, 20, 50, 100, 200, 300, 300];

/// Nested cgroups looked at, at most: the container decides how many there are.
const NESTED: usize = 256;

/// Counters remembered, at most, of a container that has had more than [`NESTED`].
const REMEMBERED: usize = 16 * NESTED;

/// The eventfd and the counter of one cgroup.
#[derive(Debug)]
pub(super) struct Source {
    dir: PathBuf,
    control: File,
    event: Polled<File>,
    state: Mutex<State>,
}

/// What was seen so far.
#[derive(Debug, Default)]
struct State {
    /// `oom_kill` of the cgroup itself.
    own: u64,
    /// `oom_kill` of the cgroups below it, by inode number: a name is used again when a service in
    /// the container restarts, the number is not.
    nested: HashMap<u64, u64>,
    /// Notifications for which no kill was seen yet.
    pending: u64,
}

impl Source {
    /// Registers an eventfd for the cgroup `dir` of `pid`.
    pub(super) fn arm(pid: u32, dir: &Path) -> Result<Source, Error> {
        let control = open(pid, dir, "memory.oom_control")?;
        // The baseline comes first: a kill that happens in between is then seen by the next look.
        let path = dir.join("memory.oom_control");
        let own = kills(&control).map_err(Error::io("read", &path))?.unwrap_or(0);
        let nested = Nested::scan(dir).kills;
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let event = EventFd::from_flags(flags)
            .map_err(|errno| Error::io("make an eventfd for", &path)(errno.into()))?;
        let registration = dir.join("cgroup.event_control");
        let line = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
        // Without O_CREAT, which fs::write would add: a removed cgroup has to give ENOENT.
        let opened = File::options().write(true).open(&registration);
        opened
            .and_then(|mut file| file.write_all(line.as_bytes()))
            .map_err(Error::io("write", &registration))?;
        let event = watch(File::from(OwnedFd::from(event)), Interest::READABLE)
            .map_err(Error::io("poll an eventfd for", &path))?;
        let state = Mutex::new(State { own, nested, pending: 0 });
        Ok(Source { dir: dir.to_owned(), control, event, state })
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
        loop {
            let mut pauses = PAUSES.into_iter();
            loop {
                let kills = self.look()?;
                if kills > 0 {
                    return Ok(kills);
                }
                if self.state().pending == 0 {
                    break;
                }
                // The kill may be about to happen.
                let Some(pause) = pauses.next() else {
                    self.state().pending = 0;
                    break;
                };
                sleep(Duration::from_millis(pause)).await;
            }
            // Cleared before the eventfd is read: a notification in between is not lost.
            self.event.readable().await?.clear_ready();
        }
    }

    /// The kills since the last report. The lock covers the reads too, so that concurrent looks
    /// cannot report one kill twice.
    pub(super) fn look(&self) -> io::Result<u64> {
        let mut state = self.state();
        state.pending = state.pending.saturating_add(self.notifications()?);
        // Read after the eventfd: a removed cgroup is recognised here, not taken for an OOM.
        let Some(own) = kills(&self.control)? else {
            // Linux before 4.13 does not count: each notification stands for a kill.
            return Ok(std::mem::take(&mut state.pending));
        };
        let mut grown = growth(&mut state.own, own);
        if state.pending > 0 {
            grown += Nested::scan(&self.dir).growth(&mut state.nested);
        }
        state.pending = state.pending.saturating_sub(grown);
        Ok(grown)
    }

    /// As [`Source::look`], beside somebody who waits in [`Source::next`]: what the kernel has
    /// announced, and has not done yet, is left to wake them.
    pub(super) fn peek(&self) -> io::Result<u64> {
        let kills = self.look()?;
        let pending = std::mem::take(&mut self.state().pending);
        if pending > 0 {
            self.event.get_ref().write_all(&pending.to_ne_bytes())?;
        }
        Ok(kills)
    }

    /// Takes the notifications since the last call from the eventfd. Read directly, not through
    /// the reactor, which may not have run since the last one came.
    fn notifications(&self) -> io::Result<u64> {
        let mut counter = [0; 8];
        match self.event.get_ref().read_exact(&mut counter) {
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => Ok(0),
            read => read.map(|()| u64::from_ne_bytes(counter)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The counter in a memory.oom_control; `None` before Linux 4.13.
fn kills(control: &File) -> io::Result<Option<u64>> {
    Ok(keyed::value(&keyed::read(control)?, "oom_kill"))
}

/// The cgroups below one.
#[derive(Debug, Default)]
struct Nested {
    /// `oom_kill` of each, by inode number.
    kills: HashMap<u64, u64>,
    /// There are more than [`NESTED`].
    cut: bool,
}

impl Nested {
    /// Reads the counters below `dir`. One that vanishes is left out.
    fn scan(dir: &Path) -> Nested {
        let mut found = Nested::default();
        let mut left = vec![dir.to_owned()];
        while let Some(dir) = left.pop() {
            let Ok(entries) = fs::read_dir(&dir) else {
                continue;
            };
            for entry in entries.flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                if found.kills.len() == NESTED {
                    found.cut = true;
                    return found;
                }
                let control = File::open(entry.path().join("memory.oom_control"));
                if let Ok(Some(kills)) = control.and_then(|control| kills(&control)) {
                    found.kills.insert(entry.ino(), kills);
                }
                left.push(entry.path());
            }
        }
        found
    }

    /// By how much these counters exceed those `seen`, which they replace. What fell behind a cut
    /// stays: it may be found again, and its kills are old.
    fn growth(self, seen: &mut HashMap<u64, u64>) -> u64 {
        let before = |inode| seen.get(inode).copied().unwrap_or(0);
        let grown = self.kills.iter().map(|(inode, kills)| kills.saturating_sub(before(inode)));
        let grown = grown.sum();
        if !self.cut || seen.len() > REMEMBERED {
            seen.clear();
        }
        seen.extend(self.kills);
        grown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_for_a_kill_takes_less_than_a_second() {
        assert!(PAUSES.iter().sum::<u64>() < 1000);
    }

    fn all(kills: impl Into<HashMap<u64, u64>>) -> Nested {
        Nested { kills: kills.into(), cut: false }
    }

    fn some(kills: impl Into<HashMap<u64, u64>>) -> Nested {
        Nested { kills: kills.into(), cut: true }
    }

    #[test]
    fn nested_cgroups_come_and_go_without_hiding_or_inventing_kills() {
        let mut seen = HashMap::from([(1, 2)]);
        assert_eq!(all([(1, 2)]).growth(&mut seen), 0);
        assert_eq!(all([(1, 3), (2, 1)]).growth(&mut seen), 2);
        // The same name again, after a restart: another inode.
        assert_eq!(all([(1, 3), (3, 1)]).growth(&mut seen), 1);
        assert_eq!(all([]).growth(&mut seen), 0);
        assert!(seen.is_empty());
    }

    #[test]
    fn what_falls_behind_a_cut_is_not_told_again() {
        let mut seen = HashMap::new();
        assert_eq!(some([(1, 2), (2, 1)]).growth(&mut seen), 3);
        assert_eq!(some([(2, 1), (3, 0)]).growth(&mut seen), 0);
        assert_eq!(all([(1, 3), (2, 1), (3, 0)]).growth(&mut seen), 1);
        for inode in 0..10_000 {
            some([(inode, 0)]).growth(&mut seen);
        }
        assert!(seen.len() <= REMEMBERED + 1, "a container decides how many there are");
    }

    #[test]
    fn a_scan_that_is_cut_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let add = |number: usize| {
            let nested = dir.path().join(number.to_string());
            fs::create_dir(&nested).unwrap();
            fs::write(nested.join("memory.oom_control"), "under_oom 0\noom_kill 1\n").unwrap();
        };
        (0..NESTED).for_each(add);
        let scanned = Nested::scan(dir.path());
        assert_eq!((scanned.kills.len(), scanned.cut), (NESTED, false));
        add(NESTED);
        let scanned = Nested::scan(dir.path());
        assert_eq!((scanned.kills.len(), scanned.cut), (NESTED, true));
    }

    /// Read and not given back, a notification would wake nobody for the kill that follows it.
    #[tokio::test]
    async fn who_waits_is_woken_for_what_another_has_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memory.oom_control");
        let say = |kills: u64| fs::write(&path, format!("oom_kill {kills}\n")).unwrap();
        say(0);
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).unwrap();
        let source = Source {
            dir: dir.path().to_owned(),
            control: File::open(&path).unwrap(),
            event: watch(File::from(OwnedFd::from(event)), Interest::READABLE).unwrap(),
            state: Mutex::default(),
        };
        let notify = || source.event.get_ref().write_all(&1_u64.to_ne_bytes()).unwrap();
        let next = tokio::time::timeout(Duration::from_secs(10), source.next());
        let kill = async {
            tokio::task::yield_now().await;
            notify();
            assert_eq!(source.peek().unwrap(), 0);
            say(1);
        };
        let (told, ()) = tokio::join!(next, kill);
        assert_eq!(told.unwrap(), Some(1));
        notify();
        say(2);
        assert_eq!((source.peek().unwrap(), source.peek().unwrap()), (1, 0));
        assert_eq!(source.notifications().unwrap(), 0);
    }
}
