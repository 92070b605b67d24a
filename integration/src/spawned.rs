// SPDX-License-Identifier: Apache-2.0
//! Who starts how many processes: the tree below some, as tracefs saw it grow.

use std::collections::HashSet;
use std::fs;

use anyhow::Result;

use crate::proc::Proc;
use crate::trace::{Trace, Traced};

/// `CLONE_THREAD` of clone(2).
const THREAD: u64 = 0x1_0000;

/// What some processes, and all they have started, did in a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spawned {
    /// Processes started.
    pub processes: usize,
    /// Threads started, besides.
    pub threads: usize,
    /// Programs executed.
    pub programs: usize,
}

/// Records them, machine-wide. Needs tracefs, where it belongs: see [`Trace::reach`].
#[derive(Debug)]
pub struct Watch {
    trace: Trace,
    /// Threads of the tree, by their ids.
    tree: HashSet<u32>,
}

impl Watch {
    /// Records from now on; `name` is unique.
    ///
    /// # Errors
    /// There is no tracefs, or not such events.
    pub fn new(name: &str) -> Result<Watch> {
        let events = ["task/task_newtask", "sched/sched_process_fork", "sched/sched_process_exec"];
        Ok(Watch { trace: Trace::of(name, &events)?, tree: HashSet::new() })
    }

    /// Forgets what was so far, and takes these processes for the root of the tree.
    ///
    /// # Errors
    /// One of them is gone.
    pub fn follow(&mut self, roots: &[Proc]) -> Result<()> {
        self.tree.clear();
        for root in roots {
            for entry in fs::read_dir(root.path("task"))?.flatten() {
                self.tree.extend(entry.file_name().to_str().and_then(|id| id.parse::<u32>().ok()));
            }
        }
        self.trace.take().map(drop)
    }

    /// What has happened since.
    ///
    /// # Errors
    /// The trace cannot be read.
    pub fn count(&mut self) -> Result<Spawned> {
        Ok(count(&self.trace.take()?, &mut self.tree))
    }
}

fn count(events: &[Traced], tree: &mut HashSet<u32>) -> Spawned {
    let (mut spawned, mut threads) = (Spawned::default(), HashSet::new());
    for event in events {
        let number = |key| event.field(key).and_then(|text| text.parse::<u32>().ok());
        match event.name.as_str() {
            // Comes before the fork it belongs to, which does not say what was made.
            "task_newtask" => {
                let flags = event.field("clone_flags");
                let flags = flags.and_then(|text| u64::from_str_radix(text, 16).ok());
                let is_thread = flags.is_some_and(|flags| flags & THREAD != 0);
                threads.extend(number("pid").filter(|_| is_thread));
            }
            "sched_process_fork" if number("pid").is_some_and(|pid| tree.contains(&pid)) => {
                let Some(child) = number("child_pid") else { continue };
                tree.insert(child);
                match threads.contains(&child) {
                    true => spawned.threads += 1,
                    false => spawned.processes += 1,
                }
            }
            // A thread that executes a program becomes its process's first.
            "sched_process_exec" => {
                let is_ours = |key| number(key).is_some_and(|pid| tree.contains(&pid));
                if is_ours("old_pid") || is_ours("pid") {
                    tree.extend(number("pid"));
                    spawned.programs += 1;
                }
            }
            _ => {}
        }
    }
    spawned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, fields: &[&str]) -> Traced {
        let fields = fields.iter().map(|&field| field.to_owned()).collect();
        Traced { cpu: 0, name: name.to_owned(), fields }
    }

    #[test]
    fn only_the_tree_is_counted() {
        let events = [
            event("task_newtask", &["pid=11", "clone_flags=3d0f00"]),
            event("sched_process_fork", &["pid=10", "child_pid=11"]),
            event("task_newtask", &["pid=12", "clone_flags=4000"]),
            event("sched_process_fork", &["pid=11", "child_pid=12"]),
            event("sched_process_exec", &["filename=/bin/true", "pid=12", "old_pid=12"]),
            event("sched_process_fork", &["pid=99", "child_pid=100"]),
            event("sched_process_exec", &["filename=/bin/true", "pid=100", "old_pid=100"]),
        ];
        let mut tree = HashSet::from([10]);
        let spawned = Spawned { processes: 1, threads: 1, programs: 1 };
        assert_eq!(count(&events, &mut tree), spawned);
        assert!(tree.contains(&12) && !tree.contains(&100));
    }
}
