// SPDX-License-Identifier: Apache-2.0
//! Settings of the calling process.

use std::io;

/// Orphans below this process become its children, `PR_SET_CHILD_SUBREAPER` of prctl(2).
///
/// # Errors
/// The error of prctl.
pub fn set_subreaper() -> io::Result<()> {
    // SAFETY: this prctl takes an integer and touches no memory.
    if unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Removes a variable from the environment of this process, which its children would inherit. Does
/// nothing unless this is the only thread.
pub fn forget_variable(name: &str) {
    let threads = std::fs::read_dir("/proc/self/task").map(Iterator::count);
    if threads.is_ok_and(|threads| threads == 1) {
        // SAFETY: nobody else reads or writes the environment, since there is nobody else.
        unsafe { std::env::remove_var(name) };
    }
}

/// Ignores SIGPIPE in this process: a write to a closed fifo gives `EPIPE` instead.
///
/// # Errors
/// The error of signal(2).
pub fn ignore_sigpipe() -> io::Result<()> {
    // SAFETY: SIG_IGN is not a function of ours, so no handler can run in a bad place.
    if unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Puts the caller's process group in a core scheduling group of its own: `PR_SCHED_CORE_CREATE`
/// of prctl(2), scope process group (Documentation/admin-guide/hw-vuln/core-scheduling.rst).
///
/// # Errors
/// `EINVAL` or `ENODEV` where the kernel or the machine has no core scheduling.
pub fn create_core_sched_group() -> io::Result<()> {
    const PR_SCHED_CORE: libc::c_int = 62;
    const PR_SCHED_CORE_CREATE: libc::c_ulong = 1;
    const PIDTYPE_PGID: libc::c_ulong = 2;
    // SAFETY: with a null cookie pointer this prctl takes integers only.
    let result = unsafe {
        libc::prctl(
            PR_SCHED_CORE,
            PR_SCHED_CORE_CREATE,
            0 as libc::c_ulong,
            PIDTYPE_PGID,
            0 as libc::c_ulong,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
