// SPDX-License-Identifier: Apache-2.0
//! The container's OOM watch (invariant I7): armed once, in the init's first Start; reports from
//! when that is announced (I3); read a last time before init's exit is published; gone with that
//! exit.

use std::sync::Arc;

use tokio::task::AbortHandle;
use wedge_cgroups::OomMonitor;

use crate::event::{Event, EventSink};

/// Armed at most once in the life of a container.
#[derive(Debug, Default)]
pub(crate) enum OomWatch {
    /// The init was never started.
    #[default]
    Unarmed,
    /// Watching.
    Armed(Watching),
    /// It could not be armed, or the init has ended.
    Over,
}

/// The monitor and, once kills are reported, the task that reads it; the task ends with this value.
#[derive(Debug)]
pub(crate) struct Watching {
    monitor: Arc<OomMonitor>,
    reader: Option<AbortHandle>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(reader) = &self.reader {
            reader.abort();
        }
    }
}

impl OomWatch {
    /// Starts to watch the memory cgroup of `pid`, unless that was done before. Kills are counted
    /// from now on, and reported from [`OomWatch::report`] on.
    pub(crate) fn arm(&mut self, container_id: &str, pid: u32) {
        if !matches!(self, OomWatch::Unarmed) {
            return;
        }
        *self = match OomMonitor::arm(pid) {
            Ok(monitor) => OomWatch::Armed(Watching { monitor: Arc::new(monitor), reader: None }),
            Err(err) => {
                log::warn!(id = container_id, pid = pid; "no OOM events for this container: {err}");
                OomWatch::Over
            }
        };
    }

    /// Reports the kills so far and those to come. Call it when the start event is queued: a
    /// container may run out of memory before the OCI runtime's start returns.
    pub(crate) fn report(&mut self, container_id: &str, events: &EventSink) {
        if let OomWatch::Armed(watching) = self
            && watching.reader.is_none()
        {
            watching.reader = Some(read(watching.monitor.clone(), container_id, events));
        }
    }

    /// All kills so far, reported or not.
    pub(crate) fn kills(&self) -> Option<u64> {
        match self {
            OomWatch::Armed(watching) => watching.monitor.kills(),
            OomWatch::Unarmed | OomWatch::Over => None,
        }
    }

    /// Ends the watch. Returns whether there were kills that no event told of.
    pub(crate) fn finish(&mut self) -> bool {
        let before = std::mem::replace(self, OomWatch::Over);
        match before {
            OomWatch::Armed(watching) => watching.monitor.last_read() > 0,
            OomWatch::Unarmed | OomWatch::Over => false,
        }
    }
}

fn read(monitor: Arc<OomMonitor>, container_id: &str, events: &EventSink) -> AbortHandle {
    let (events, container_id) = (events.clone(), container_id.to_owned());
    #[expect(clippy::disallowed_methods, reason = "owned by Watching, which aborts it")]
    let reader = tokio::spawn(async move {
        while let Some(kills) = monitor.next().await {
            log::info!(id = container_id.as_str(), kills = kills; "out of memory");
            events.send(Event::Oom { container_id: container_id.clone() });
        }
    });
    reader.abort_handle()
}
