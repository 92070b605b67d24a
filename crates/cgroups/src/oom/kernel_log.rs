// SPDX-License-Identifier: Apache-2.0
//! The kernel's own record of its kills, for when the counter went with its cgroup.
//!
//! systemd removes a scope as soon as nothing runs in it, which it may learn before we do: the
//! cgroup is empty when its last process exits, not when that is reaped (`cgroup_exit` in
//! kernel/cgroup/cgroup.c). A kill is two lines of the kernel's log (mm/oom_kill.c): one names the
//! cgroup, of at most ten kills in five seconds on the whole machine; the other, of each kill, names
//! the process only, and says something to us if that is the init.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Mutex, PoisonError};

/// Room for one record (`PRINTK_MESSAGE_MAX` and `CONSOLE_EXT_LOG_MAX` in the kernel).
const RECORD: usize = 8192;

/// `/dev/kmsg`, from when this was opened on.
#[derive(Debug)]
pub(super) struct KernelLog {
    log: Mutex<(File, Told)>,
    /// The cgroup, from the root we see, which may be less than the kernel tells.
    cgroup: String,
    /// The init.
    pid: u32,
}

/// Whose kills were told of.
type Told = BTreeSet<u32>;

impl KernelLog {
    /// Reads from now on. `None` where there is no such log, or it is not for us.
    pub(super) fn from_now_on(cgroup: &str, pid: u32) -> Option<KernelLog> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NONBLOCK);
        let mut log = options.open("/dev/kmsg").ok()?;
        log.seek(SeekFrom::End(0)).ok()?;
        Some(KernelLog { log: Mutex::new((log, Told::new())), cgroup: cgroup.to_owned(), pid })
    }

    /// How many kills in the cgroup and below it were logged.
    pub(super) fn kills(&self) -> u64 {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let (log, told) = &mut *log;
        let mut record = vec![0; RECORD];
        loop {
            match log.read(&mut record) {
                Ok(0) => break,
                Ok(len) => {
                    let text = String::from_utf8_lossy(record.get(..len).unwrap_or_default());
                    let victim = killed_in(&text, &self.cgroup)
                        .or_else(|| killed(&text).filter(|pid| *pid == self.pid));
                    told.extend(victim);
                }
                // Records were overwritten before they were read: the next read goes on after them.
                Err(err) if err.kind() == io::ErrorKind::BrokenPipe => {}
                Err(_) => break,
            }
        }
        u64::try_from(told.len()).unwrap_or(u64::MAX)
    }
}

/// The process that was killed, if a record tells of one of `cgroup`, or of one below it.
fn killed_in(record: &str, cgroup: &str) -> Option<u32> {
    let (_, summary) = record.split_once(";oom-kill:")?;
    let (_, victim) = summary.split_once(",task_memcg=")?;
    let (_, rest) = victim.split_once(cgroup)?;
    let (_, pid) = rest.rsplit_once(",pid=").filter(|_| rest.starts_with([',', '/']))?;
    pid.split_once(',')?.0.parse().ok()
}

/// The process that was killed, if a record tells of one that a cgroup had no more memory for.
fn killed(record: &str) -> Option<u32> {
    let (_, victim) = record.split_once(";Memory cgroup out of memory: Killed process ")?;
    victim.split_once(' ')?.0.parse().ok()
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
            let victim = killed_in(&record(cgroup), "/x.slice/a.scope");
            assert_eq!(victim, tells.then_some(23), "{cgroup}");
        }
        let foreign = "12,7,9,-;text,task_memcg=/x.slice/a.scope,pid=23,uid=0\n";
        assert_eq!(killed_in(foreign, "/x.slice/a.scope"), None);
    }

    #[test]
    fn each_kill_names_its_process() {
        let record = "3,900,4711,-;Memory cgroup out of memory: Killed process 812 (d d) \
                      total-vm:68188kB, anon-rss:16000kB, file-rss:0kB, shmem-rss:0kB, UID:0\n";
        assert_eq!(killed(record), Some(812));
        for other in ["3,9,4,-;Out of memory: Killed process 812 (dd)\n", "6,9,4,-;text\n", ""] {
            assert_eq!(killed(other), None, "{other}");
        }
    }
}
