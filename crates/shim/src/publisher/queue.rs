// SPDX-License-Identifier: Apache-2.0
//! The events that wait for containerd, and which of them go when it stays away too long.

use std::collections::VecDeque;

use wedge_task::{Event, Stamped};

/// Above this many, the oldest event that is not an exit is dropped.
const MAX: usize = 4096;

/// Above this many, all of them exits, the oldest exit is dropped.
const MAX_EXITS: usize = 16_384;

/// Events in the order of happening. Exits are kept longest: a client that missed one may wait for
/// ever, and it can ask for everything else.
#[derive(Debug, Default)]
pub(super) struct Queue {
    events: VecDeque<Stamped>,
    /// How many of them are exits.
    exits: usize,
    /// How many were dropped since the last report.
    dropped: u64,
}

impl Queue {
    pub(super) fn push(&mut self, event: Stamped) {
        self.exits += usize::from(is_exit(&event));
        self.events.push_back(event);
        if self.events.len() > MAX {
            self.shed();
        }
    }

    pub(super) fn pop(&mut self) -> Option<Stamped> {
        let event = self.events.pop_front()?;
        self.exits -= usize::from(is_exit(&event));
        if self.events.is_empty() {
            // A long absence of containerd must not cost memory for ever.
            self.events.shrink_to(0);
        }
        Some(event)
    }

    /// Logs how many events were dropped, once.
    pub(super) fn report(&mut self) {
        match std::mem::take(&mut self.dropped) {
            0 => {}
            count => log::error!(count = count; "events were dropped while containerd was away"),
        }
    }

    fn shed(&mut self) {
        if self.exits < self.events.len() {
            if let Some(oldest) = self.events.iter().position(|event| !is_exit(event)) {
                self.events.remove(oldest);
            }
        } else if self.events.len() > MAX_EXITS {
            self.events.pop_front();
            self.exits -= 1;
        } else {
            return;
        }
        if self.dropped == 0 {
            log::warn!("too many events wait for containerd, the oldest are dropped");
        }
        self.dropped += 1;
    }
}

fn is_exit(stamped: &Stamped) -> bool {
    matches!(*stamped.event, Event::Exit { .. })
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use wedge_reaper::{Exit, ExitStatus};

    use super::*;

    fn exit(pid: u32) -> Stamped {
        let at = SystemTime::UNIX_EPOCH;
        let exit = Exit { pid, status: ExitStatus::KILLED, at };
        let (container_id, id) = (String::new(), String::new());
        Stamped { at, event: Box::new(Event::Exit { container_id, id, exit }) }
    }

    fn start(pid: u32) -> Stamped {
        let event = Event::Start { container_id: String::new(), pid };
        Stamped { at: SystemTime::UNIX_EPOCH, event: Box::new(event) }
    }

    fn drain(mut queue: Queue) -> Vec<(bool, u32)> {
        let mut all = Vec::new();
        while let Some(stamped) = queue.pop() {
            if let Event::Exit { exit, .. } = *stamped.event {
                all.push((true, exit.pid));
            } else if let Event::Start { pid, .. } = *stamped.event {
                all.push((false, pid));
            }
        }
        assert_eq!(queue.exits, 0);
        all
    }

    #[test]
    fn the_oldest_event_that_is_no_exit_goes_first() {
        let mut queue = Queue::default();
        queue.push(exit(0));
        (1..=5000).for_each(|pid| queue.push(start(pid)));
        assert_eq!(queue.dropped, 5001 - 4096);
        let left = drain(queue);
        assert_eq!(left.len(), MAX);
        assert_eq!(left[0], (true, 0), "the exit stays, at its place");
        let starts: Vec<_> = left[1..].iter().map(|(_, pid)| *pid).collect();
        assert_eq!(starts, (906..=5000).collect::<Vec<_>>(), "the newest stay, in order");
    }

    #[test]
    fn exits_go_only_above_their_own_bound() {
        let mut queue = Queue::default();
        (0..16_384).for_each(|pid| queue.push(exit(pid)));
        assert_eq!(queue.dropped, 0);
        queue.push(start(7));
        assert_eq!(queue.dropped, 1, "the start went, no exit did");
        queue.push(exit(16_384));
        assert_eq!(queue.dropped, 2);
        let left = drain(queue);
        assert_eq!(left.first(), Some(&(true, 1)));
        assert_eq!(left.len(), 16_384);
    }
}
