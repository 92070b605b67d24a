// SPDX-License-Identifier: Apache-2.0
//! What the kernel says of its own doing: events of tracefs (Documentation/trace/events.rst).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

const TRACING: &str = "/sys/kernel/tracing";
const INSTANCES: &str = "/sys/kernel/tracing/instances";

/// A buffer of events of its own, removed when it is dropped. Needs tracefs, where it belongs.
#[derive(Debug)]
pub struct Trace {
    dir: PathBuf,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traced {
    /// On which CPU it happened.
    pub cpu: u32,
    /// Its name, e.g. `sched_process_fork`.
    pub name: String,
    /// `key=value` of what belongs to it.
    pub fields: Vec<String>,
}

impl Trace {
    /// Sees to it that there is tracefs: where it is not mounted, the calling thread gets a mount
    /// namespace of its own, which has it, and all that it starts from now on is in there.
    ///
    /// # Errors
    /// The kernel has none.
    pub fn reach() -> Result<()> {
        const NONE: Option<&str> = None;
        if Path::new(INSTANCES).exists() {
            return Ok(());
        }
        unshare(CloneFlags::CLONE_NEWNS).context("unshare")?;
        mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
        let kind = Some("tracefs");
        mount(kind, TRACING, kind, MsFlags::empty(), NONE).context("mounting tracefs")
    }

    /// Records `events`, e.g. `sched/sched_process_fork`, from now on; `name` is unique.
    ///
    /// # Errors
    /// There is no tracefs, or not such an event.
    pub fn of(name: &str, events: &[&str]) -> Result<Trace> {
        let dir = Path::new(INSTANCES).join(name);
        fs::create_dir(&dir).with_context(|| dir.display().to_string())?;
        let trace = Trace { dir };
        for event in events {
            let file = trace.dir.join("events").join(event).join("enable");
            fs::write(&file, "1").with_context(|| file.display().to_string())?;
        }
        Ok(trace)
    }

    /// What happened since the last call, in its order.
    ///
    /// # Errors
    /// A file operation fails, or a line is not understood.
    pub fn take(&self) -> Result<Vec<Traced>> {
        let file = self.dir.join("trace");
        let text = fs::read_to_string(&file)?;
        // Opening it so empties the buffer.
        fs::write(&file, "")?;
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        lines.map(|line| parse(line).with_context(|| line.to_owned())).collect()
    }
}

/// `COMM-PID [CPU] FLAGS TIME: NAME: KEY=VALUE …`.
fn parse(line: &str) -> Option<Traced> {
    let mut words = line.split_whitespace();
    let cpu = words.find_map(|word| word.strip_prefix('[')?.strip_suffix(']')?.parse().ok())?;
    let name = words.nth(2)?.strip_suffix(':')?.to_owned();
    Some(Traced { cpu, name, fields: words.map(str::to_owned).collect() })
}

impl Traced {
    /// The value of a field.
    pub fn field(&self, key: &str) -> Option<&str> {
        self.fields.iter().find_map(|field| field.strip_prefix(key)?.strip_prefix('='))
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // A test that fails here has failed before.
        fs::remove_dir(&self.dir).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_understood() {
        let line = "  wedge-setns-812   [002] d..2.    12.3456: cgroup_attach_task: dst_id=7 pid=9";
        let event = parse(line).unwrap();
        assert_eq!((event.cpu, event.name.as_str()), (2, "cgroup_attach_task"));
        assert_eq!((event.field("pid"), event.field("id")), (Some("9"), None));
        assert_eq!(parse("CPU:1 [LOST 5 EVENTS]"), None);
    }
}
