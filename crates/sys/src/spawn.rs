// SPDX-License-Identifier: Apache-2.0
//! What a child must set between fork and exec.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::SigSet;

use crate::limit::{inherited_descriptor_limit, set_descriptor_limit};

/// Makes `command` start with default signal dispositions, an empty signal mask, the limit on
/// descriptors this process was started with and, with `die_with_parent`, SIGKILL as its
/// parent-death signal.
///
/// A blocked signal or an ignored SIGPIPE survives exec and would reach the container's init
/// through the OCI runtime. The parent-death signal fires when the *thread* that forked ends
/// (prctl(2)), so such a command must be spawned from a thread that lives as long as the process.
pub fn prepare_child(command: &mut Command, die_with_parent: bool) {
    prepare(command, SigSet::empty(), die_with_parent);
}

/// As [`prepare_child`], with `held` blocked: those that come before it handles them are kept for
/// it until it unblocks them.
pub fn prepare_server(command: &mut Command, held: SigSet) {
    prepare(command, held, false);
}

fn prepare(command: &mut Command, blocked: SigSet, die_with_parent: bool) {
    let parent = std::process::id();
    let descriptors = inherited_descriptor_limit();
    // SAFETY: the closure runs between fork and exec, where only async-signal-safe calls are
    // allowed: it makes system calls on its own stack and neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(move || {
            // First of all, that none comes in between.
            blocked.thread_set_mask()?;
            reset_dispositions();
            if let Some(limit) = &descriptors {
                set_descriptor_limit(limit)?;
            }
            if die_with_parent { die_with(parent) } else { Ok(()) }
        });
    }
}

fn reset_dispositions() {
    // The kernel's struct sigaction, all zero: SIG_DFL, no flags, empty mask. libc's wrapper would
    // refuse signals 32 and 33, which a parent may have ignored all the same.
    let default = [0_u64; 4];
    let mask_size = size_of::<u64>();
    for signal in 1..=64_i32 {
        // SAFETY: `default` is as large as the kernel's struct sigaction on 64-bit Linux and lives
        // for the call; SIGKILL and SIGSTOP give EINVAL, which leaves them as they are.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                mask_size,
            )
        };
    }
}

/// Neither allocates nor takes a lock: it also runs in a forked child.
pub(crate) fn die_with(parent: u32) -> io::Result<()> {
    // SAFETY: this prctl takes integers only.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: getppid takes no argument and cannot fail.
    if unsafe { libc::getppid() }.unsigned_abs() != parent {
        // The parent died before the signal was armed: nobody will reap this child.
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
}
