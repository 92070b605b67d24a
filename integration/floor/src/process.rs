// SPDX-License-Identifier: Apache-2.0
//! What every process of a container is given before it runs its program.

use std::convert::Infallible;
use std::ffi::CStr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Gid, Pid, Uid, chdir, execve, setgroups, setresgid, setresuid};

use crate::raw;
use crate::seccomp::Filter;

/// The fourteen of containerd's defaults, by number: include/uapi/linux/capability.h.
const CAPABILITIES: [u32; 14] = [0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31];

/// The last capability of this header.
const LAST: u32 = 40;

/// Becomes root with the usual capabilities and no more, under a filter, and then `program`.
pub(crate) fn become_program(program: &CStr, filter: Option<&Filter>) -> Result<Infallible> {
    for capability in (0..=LAST).filter(|number| !CAPABILITIES.contains(number)) {
        raw::drop_bounding(capability).with_context(|| format!("dropping {capability}"))?;
    }
    setgroups(&[]).context("setgroups")?;
    let (user, group) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(group, group, group).context("setresgid")?;
    setresuid(user, user, user).context("setresuid")?;
    raw::set_capabilities(CAPABILITIES.iter().fold(0, |bits, number| bits | 1 << number))
        .context("capset")?;
    nix::sys::prctl::set_no_new_privs().context("no_new_privs")?;
    filter.map_or(Ok(()), Filter::load).context("seccomp")?;
    chdir("/").context("chdir")?;
    let words: [&CStr; 2] = [program, c"pause"];
    let count = if program == crate::TRUE { 1 } else { 2 };
    let arguments = words.get(..count).unwrap_or_default();
    execve(program, arguments, &[c"PATH=/bin"]).with_context(|| format!("{program:?}"))
}

/// Ends a child that could not do its part: its parent sees the exit code.
pub(crate) fn give_up(error: &anyhow::Error) -> ! {
    use std::io::Write;
    writeln!(std::io::stderr(), "floor: {error:#}").ok();
    raw::leave(1)
}

/// CPU time of this process and of all children it has waited for, to the microsecond.
pub(crate) fn cpu() -> Result<Duration> {
    let mut sum = Duration::ZERO;
    for who in [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN] {
        let usage = getrusage(who)?;
        for time in [usage.user_time(), usage.system_time()] {
            sum += Duration::from_micros(u64::try_from(time.num_microseconds())?);
        }
    }
    Ok(sum)
}

/// Waits for a child, or for any: it must have ended well, or by the signal told.
pub(crate) fn reap(pid: Option<Pid>, killed: bool) -> Result<()> {
    let status = waitpid(pid, None)?;
    let as_told = match killed {
        true => matches!(status, WaitStatus::Signaled(..)),
        false => matches!(status, WaitStatus::Exited(_, 0)),
    };
    ensure!(as_told, "{status:?}");
    Ok(())
}
