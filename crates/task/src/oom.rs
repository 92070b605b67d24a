// SPDX-License-Identifier: Apache-2.0
//! The container's OOM watch (invariant I7): armed once, in the init's first Start; reports from
//! when that is announced (I3); read before the exit of an exec that was killed, and a last time
//! before that of init; gone with that exit, but for what it has counted.

mod tally;

use std::fmt;
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::task::AbortHandle;
use wedge_cgroups::{Cgroup, OomMonitor};
use wedge_reaper::ExitStatus;

use crate::event::{Event, EventSink};
use crate::lock;
use tally::Tally;

/// The kernel's `PF_EXITING`, include/linux/sched.h.
const EXITING: u64 = 0x4;

/// Armed at most once in the life of a container.
#[derive(Debug, Default)]
pub(crate) enum OomWatch {
    /// The init was never started.
    #[default]
    Unarmed,
    /// Watching.
    Armed(Watching),
    /// It could not be armed, or the init has ended.
    Over(Tally),
}

/// The watch and, once kills are reported, the task that reads it; the task ends with this value.
#[derive(Debug)]
pub(crate) struct Watching {
    watch: Arc<Watch>,
    reader: Option<AbortHandle>,
    /// There was a kill of which no event may tell before init's start is announced.
    held: bool,
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(reader) = &self.reader {
            reader.abort();
        }
    }
}

#[derive(Debug)]
struct Watch {
    id: String,
    monitor: OomMonitor,
    /// For its limit and peak.
    cgroup: Cgroup,
    tally: Mutex<Tally>,
}

impl Watch {
    /// Takes note of kills that the monitor has reported.
    fn note(&self, kills: u64) {
        let memory = self.cgroup.memory();
        log::info!(id = self.id.as_str(), kills = kills; "out of memory ({memory})");
        lock(&self.tally).reported(kills, memory, Instant::now());
    }
}

impl OomWatch {
    /// Starts to watch the memory cgroup of `pid`, unless that was done before. Kills are counted
    /// from now on, and reported from [`OomWatch::report`] on.
    pub(crate) fn arm(&mut self, container_id: &str, pid: u32, cgroup: Option<Cgroup>) {
        if !matches!(self, OomWatch::Unarmed) {
            return;
        }
        // Without a cgroup that was said when it was looked for.
        let Some(cgroup) = cgroup else {
            *self = OomWatch::Over(Tally::default());
            return;
        };
        *self = match OomMonitor::arm(pid, &cgroup) {
            Ok(monitor) => {
                let (id, tally) = (container_id.to_owned(), Mutex::default());
                let watch = Arc::new(Watch { id, monitor, cgroup, tally });
                OomWatch::Armed(Watching { watch, reader: None, held: false })
            }
            Err(err) => {
                log::warn!(id = container_id, pid = pid; "no OOM events for this container: {err}");
                OomWatch::Over(Tally::default())
            }
        };
    }

    /// Reports the kills so far and those to come. Call it when the start event is queued: a
    /// container may run out of memory before the OCI runtime's start returns.
    pub(crate) fn report(&mut self, events: &EventSink) {
        if let OomWatch::Armed(watching) = self
            && watching.reader.is_none()
        {
            if std::mem::take(&mut watching.held) {
                events.send(Event::Oom { container_id: watching.watch.id.clone() });
            }
            watching.reader = Some(read(watching.watch.clone(), events));
        }
    }

    /// Takes note of kills that were not reported yet. Returns whether an event has to tell of them
    /// now: the reader, who may be waiting, will not.
    pub(crate) fn catch_up(&mut self) -> bool {
        let OomWatch::Armed(watching) = self else { return false };
        let kills = watching.watch.monitor.unreported();
        if kills > 0 {
            watching.watch.note(kills);
        }
        let reports = watching.reader.is_some();
        watching.held |= kills > 0 && !reports;
        kills > 0 && reports
    }

    /// All kills that were noted.
    pub(crate) fn kills(&self) -> u64 {
        match self {
            OomWatch::Unarmed => 0,
            OomWatch::Armed(watching) => lock(&watching.watch.tally).kills(),
            OomWatch::Over(tally) => tally.kills(),
        }
    }

    /// An exec was ended by SIGKILL: by the kernel's, if that was noted? `init` is the pid of the
    /// init, whose end ends its execs too.
    pub(crate) fn exec_killed(&self, exec_id: &str, init: u32) {
        let OomWatch::Armed(Watching { watch, .. }) = self else { return };
        if !is_exiting(init) && lock(&watch.tally).exec_ended(exec_id, Instant::now()) {
            let id = watch.id.as_str();
            log::info!(id = id, exec_id = exec_id; "an exec was killed, out of memory");
        }
    }

    /// Ends the watch; `init` is how the init has ended, if it was started. Returns whether there
    /// were kills that no event told of.
    pub(crate) fn finish(&mut self, init: Option<ExitStatus>) -> bool {
        let OomWatch::Armed(Watching { watch, held, .. }) = self else { return false };
        let kills = watch.monitor.last_read();
        if kills > 0 {
            watch.note(kills);
        }
        let untold = kills > 0 || *held;
        let mut tally = lock(&watch.tally).clone();
        if init == Some(ExitStatus::KILLED) && tally.init_ended(Instant::now()) {
            log::info!(id = watch.id.as_str(); "init was killed, out of memory");
        }
        *self = OomWatch::Over(tally);
        untold
    }
}

/// For the dump; nothing when nothing was killed.
impl fmt::Display for OomWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OomWatch::Unarmed => Ok(()),
            OomWatch::Armed(watching) => lock(&watching.watch.tally).fmt(f),
            OomWatch::Over(tally) => tally.fmt(f),
        }
    }
}

fn read(watch: Arc<Watch>, events: &EventSink) -> AbortHandle {
    let events = events.clone();
    #[expect(clippy::disallowed_methods, reason = "owned by Watching, which aborts it")]
    let reader = tokio::spawn(async move {
        while let Some(kills) = watch.monitor.next().await {
            watch.note(kills);
            events.send(Event::Oom { container_id: watch.id.clone() });
        }
    });
    reader.abort_handle()
}

/// Whether a process is on its way out: it may have to wait for others of its pid namespace, which
/// it has killed, until it can be reaped (`zap_pid_ns_processes` in kernel/pid_namespace.c).
fn is_exiting(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    flags(&stat).is_none_or(|flags| flags & EXITING != 0)
}

/// Field 9 of `/proc/PID/stat`, proc_pid_stat(5). The name in field 2 may hold anything.
fn flags(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(6)?.parse().ok()
}

#[cfg(test)]
mod tests;
