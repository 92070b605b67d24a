// SPDX-License-Identifier: Apache-2.0
//! Reaping children with the exact status.
//!
//! nix turns a signal number above 31 into an error *after* the child was reaped, and the exit is
//! lost; that is why waitid(2) is called here.

use std::io;
use std::mem::MaybeUninit;

/// How a process ended, as the kernel reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It called exit with this code, 0 to 255.
    Exited(i32),
    /// It was killed by this signal, 1 to 64.
    Signaled(i32),
}

/// A child that was just reaped: its pid is free again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reaped {
    /// The pid it had.
    pub pid: u32,
    /// How it ended.
    pub ended: Ended,
}

/// Reaps one child that has ended, waitid(2) with `P_ALL | WEXITED | WNOHANG`. `None` when no
/// child has ended, or there is none.
///
/// # Errors
/// None are expected apart from `EINTR`, which is retried, and `ECHILD`, which is `None`.
pub fn reap_next() -> io::Result<Option<Reaped>> {
    loop {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG;
        // SAFETY: `info` is valid for writes of one siginfo_t, all that waitid needs.
        let result = unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), flags) };
        if result < 0 {
            let err = io::Error::last_os_error();
            match err.raw_os_error() {
                Some(libc::EINTR) => continue,
                Some(libc::ECHILD) => return Ok(None),
                _ => return Err(err),
            }
        }
        // SAFETY: siginfo_t is plain integers and pointers; it was zeroed before the call, so
        // every bit pattern in it is initialised whether or not the kernel wrote to it.
        let info = unsafe { info.assume_init() };
        // SAFETY: for waitid the kernel fills the child variant of the union, and zeroes say that
        // no child had ended; si_pid is an integer in both cases.
        let pid = unsafe { info.si_pid() };
        if pid == 0 {
            return Ok(None);
        }
        // SAFETY: as for si_pid above.
        let status = unsafe { info.si_status() };
        let ended = match info.si_code {
            libc::CLD_EXITED => Ended::Exited(status),
            _ => Ended::Signaled(status),
        };
        return Ok(Some(Reaped { pid: pid.unsigned_abs(), ended }));
    }
}
