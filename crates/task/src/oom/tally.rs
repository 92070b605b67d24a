// SPDX-License-Identifier: Apache-2.0
//! Whom the OOM killer has met: pure, no I/O.
//!
//! The kernel tells how many it has killed, not whom. A process of ours that was ended by SIGKILL
//! shortly after a kill that nobody else accounts for is taken for its victim; a kill that is
//! left over was that of a child.

use std::fmt;
use std::time::{Duration, Instant};

use wedge_cgroups::MemoryUse;

/// How long a victim may take from when its kill is seen until it is reaped: it has gigabytes
/// to give back.
const AROUND: Duration = Duration::from_secs(5);

/// The kills in one container.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// All.
    kills: u64,
    init: bool,
    execs: u64,
    last_exec: String,
    memory: MemoryUse,
    /// Those that no process of ours accounts for.
    unclaimed: u64,
    latest: Option<Instant>,
}

impl Tally {
    /// There were kills, with the container's memory as it was then.
    pub(super) fn reported(&mut self, kills: u64, memory: MemoryUse, now: Instant) {
        self.kills = self.kills.saturating_add(kills);
        self.unclaimed = self.unclaimed.saturating_add(kills);
        self.latest = Some(now);
        self.memory = memory;
    }

    pub(super) fn kills(&self) -> u64 {
        self.kills
    }

    /// Init was ended by SIGKILL. Returns whether that was one of the kills.
    pub(super) fn init_ended(&mut self, now: Instant) -> bool {
        self.init = self.claim(now);
        self.init
    }

    /// An exec was ended by SIGKILL. Returns whether that was one of the kills.
    pub(super) fn exec_ended(&mut self, exec_id: &str, now: Instant) -> bool {
        if !self.claim(now) {
            return false;
        }
        self.execs = self.execs.saturating_add(1);
        self.last_exec = exec_id.to_owned();
        true
    }

    fn claim(&mut self, now: Instant) -> bool {
        let recent = self.latest.is_some_and(|latest| now.duration_since(latest) <= AROUND);
        if !recent {
            self.unclaimed = 0;
        }
        let one = self.unclaimed > 0;
        self.unclaimed = self.unclaimed.saturating_sub(1);
        one
    }
}

/// Nothing when there was no kill, else what follows a container's line of the dump.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kills == 0 {
            return Ok(());
        }
        write!(f, ", OOM kills: {} ({})", self.kills, self.memory)?;
        if self.execs > 0 {
            write!(f, ", {} of execs (the last {})", self.execs, self.last_exec)?;
        }
        f.write_str(if self.init { ", 1 of init" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kill(tally: &mut Tally, kills: u64, now: Instant) {
        tally.reported(kills, MemoryUse::default(), now);
    }

    #[test]
    fn each_kill_has_one_victim() {
        let now = Instant::now();
        let mut tally = Tally::default();
        assert!(!tally.exec_ended("e0", now), "killed by a user");
        kill(&mut tally, 2, now);
        assert!(tally.exec_ended("e1", now));
        assert!(tally.init_ended(now + AROUND));
        assert!(!tally.exec_ended("e2", now + AROUND));
        assert_eq!((tally.init, tally.execs, tally.last_exec.as_str()), (true, 1, "e1"));
    }

    #[test]
    fn the_kill_of_a_child_is_not_of_who_is_killed_later() {
        let now = Instant::now();
        let mut tally = Tally::default();
        kill(&mut tally, 1, now);
        let later = now + AROUND + Duration::from_millis(1);
        assert!(!tally.init_ended(later));
        kill(&mut tally, 1, later);
        assert!(tally.exec_ended("e1", later));
        assert!(!tally.init_ended(later), "the child's is long over");
    }

    #[test]
    fn the_dump_tells_of_kills_only() {
        let mut tally = Tally::default();
        assert_eq!(tally.to_string(), "");
        let now = Instant::now();
        tally.reported(3, MemoryUse { limit: Some(64), peak: Some(63) }, now);
        assert_eq!(tally.to_string(), ", OOM kills: 3 (limit 64, peak 63)");
        tally.exec_ended("e7", now);
        tally.init_ended(now);
        let told = tally.to_string();
        assert!(told.ends_with("), 1 of execs (the last e7), 1 of init"), "{told}");
    }
}
