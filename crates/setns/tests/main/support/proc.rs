// SPDX-License-Identifier: Apache-2.0
//! Facts from `/proc`, and waiting for them.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// More than anything here takes, also on a machine that is emulated.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Looks until there is a value; `what` is what was waited for in vain.
pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(Instant::now() < end, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A process, seen from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) name: String,
    /// `R`, `S`, `T`, `Z`, …, and what follows it in `/proc/PID/stat`.
    pub(crate) fields: Vec<String>,
}

impl Process {
    pub(crate) fn read(pid: u32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (head, tail) = stat.rsplit_once(") ")?;
        let (_, name) = head.split_once('(')?;
        let fields = tail.split_whitespace().map(str::to_owned).collect();
        Some(Process { pid, name: name.to_owned(), fields })
    }

    /// Our children and those of the helper's processes among them, zombies too.
    pub(crate) fn children() -> Vec<Process> {
        let pids = fs::read_dir("/proc").unwrap();
        let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let all: Vec<Process> = pids.filter_map(Process::read).collect();
        let of = |parent: u32| {
            let parent = parent.to_string();
            all.iter().filter(move |process| process.field(4) == parent).cloned()
        };
        let mut found: Vec<Process> = of(std::process::id()).collect();
        let mut next = 0;
        while let Some(process) = found.get(next) {
            if process.name == "wedge-setns" {
                found.extend(of(process.pid).collect::<Vec<_>>());
            }
            next += 1;
        }
        found
    }

    /// A field by its number in proc_pid_stat(5), from 3 on.
    pub(crate) fn field(&self, number: usize) -> &str {
        &self.fields[number - 3]
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.pid))
    }

    /// The value of a line of `/proc/PID/status`.
    pub(crate) fn status(&self, key: &str) -> String {
        let status = fs::read_to_string(self.path("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {key} in {status}")).trim().to_owned()
    }
}
