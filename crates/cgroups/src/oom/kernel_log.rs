// SPDX-License-Identifier: Apache-2.0
//! The kernel's own record of its kills, for when the counter went with its cgroup.
//!
//! systemd removes a scope as soon as nothing runs in it, which it may learn before we do: the
//! cgroup is empty when its last process exits, not when that is reaped (`cgroup_exit` in
//! kernel/cgroup/cgroup.c). Each kill is a line of the kernel's log (`dump_oom_victim` in
//! mm/oom_kill.c), at most ten in five seconds on the whole machine.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Mutex, PoisonError};

/// Room for one record (`PRINTK_MESSAGE_MAX` and `CONSOLE_EXT_LOG_MAX` in the kernel).
const RECORD: usize = 8192;

/// `/dev/kmsg`, from when this was opened on.
#[derive(Debug)]
pub(super) struct KernelLog {
    log: Mutex<File>,
    /// The cgroup, from the root we see, which may be less than the kernel tells.
    cgroup: String,
}

impl KernelLog {
    /// Reads from now on. `None` where there is no such log, or it is not for us.
    pub(super) fn from_now_on(cgroup: &str) -> Option<KernelLog> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NONBLOCK);
        let mut log = options.open("/dev/kmsg").ok()?;
        log.seek(SeekFrom::End(0)).ok()?;
        Some(KernelLog { log: Mutex::new(log), cgroup: cgroup.to_owned() })
    }

    /// How many kills in the cgroup and below it were logged since this was last asked.
    pub(super) fn kills(&self) -> u64 {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let mut record = vec![0; RECORD];
        let mut kills = 0;
        loop {
            match log.read(&mut record) {
                Ok(0) => return kills,
                Ok(len) => {
                    let text = String::from_utf8_lossy(record.get(..len).unwrap_or_default());
                    kills += u64::from(tells_of_a_kill(&text, &self.cgroup));
                }
                // Records were overwritten before they were read: the next read goes on after them.
                Err(err) if err.kind() == io::ErrorKind::BrokenPipe => {}
                Err(_) => return kills,
            }
        }
    }
}

/// Whether a record says that a process of `cgroup`, or of one below it, was killed.
fn tells_of_a_kill(record: &str, cgroup: &str) -> bool {
    let Some((_, summary)) = record.split_once(";oom-kill:") else { return false };
    let Some((_, victim)) = summary.split_once(",task_memcg=") else { return false };
    victim.split_once(cgroup).is_some_and(|(_, rest)| rest.starts_with([',', '/']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_kills_in_the_cgroup_and_below_it_count() {
        let record = |cgroup: &str| {
            format!(
                "6,1201,93125210,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=a,\
                 mems_allowed=0,oom_memcg=/x.slice,task_memcg={cgroup},task=dd,pid=23,uid=0\n"
            )
        };
        let table = [
            ("/x.slice/a.scope", true),
            ("/x.slice/a.scope/nested", true),
            ("/the/container/we/are/in/x.slice/a.scope", true),
            ("/x.slice/a.scope2", false),
            ("/x.slice", false),
        ];
        for (cgroup, tells) in table {
            assert_eq!(tells_of_a_kill(&record(cgroup), "/x.slice/a.scope"), tells, "{cgroup}");
        }
        let foreign = "12,7,9,-;text,task_memcg=/x.slice/a.scope,\n";
        assert!(!tells_of_a_kill(foreign, "/x.slice/a.scope"));
    }
}
