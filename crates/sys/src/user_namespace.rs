// SPDX-License-Identifier: Apache-2.0
//! A child that is there only for its user namespace.

use std::io;

use libc::{c_long, c_ulong};
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};

use crate::spawn::die_with;

/// Starts a child in a new user namespace without any id mapped, and returns its pid. It runs no
/// program, holds no descriptor and does nothing until it is killed; it is killed when the calling
/// *thread* ends.
///
/// JUSTIFICATION: a namespace without a process cannot be had in a process with several threads
/// (unshare(2)), and a [`std::process::Command`] needs a program to run: which one is there, and
/// executable for the overflow id, is not for us to know.
///
/// # Errors
/// `ENOSPC` when there may be no more user namespaces, `EPERM`, `EAGAIN`.
pub fn spawn_in_user_namespace() -> io::Result<u32> {
    let parent = std::process::id();
    let mut before = SigSet::empty();
    // Handlers are inherited, and ours write to a pipe that parent and child would share.
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
    let flags = libc::CLONE_NEWUSER | libc::SIGCHLD;
    let none: c_ulong = 0;
    // SAFETY: without CLONE_VM, and with no stack given, this is fork(2): the child runs on its
    // own copy of this stack. As the parent may have other threads, of which the child has none,
    // the child may take no lock: it only makes system calls and never returns from `idle`.
    let pid =
        unsafe { libc::syscall(libc::SYS_clone, c_long::from(flags), none, none, none, none) };
    if pid == 0 {
        idle(parent);
    }
    let failed = io::Error::last_os_error();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
    u32::try_from(pid).map_err(|_| failed)
}

/// All of the child's life. Every signal but SIGKILL and SIGSTOP is blocked.
fn idle(parent: u32) -> ! {
    let armed = die_with(parent);
    // The copies of the parent's pipes would keep their other ends from seeing the end.
    // SAFETY: close_range takes three integers, and no owner of a descriptor runs in this child.
    unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) };
    while armed.is_ok() {
        // SAFETY: pause takes no argument.
        unsafe { libc::pause() };
    }
    // SAFETY: _exit runs no handler and frees nothing, as is right for a forked child.
    unsafe { libc::_exit(1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PidFd, reap_next};
    use std::fs;
    use std::time::{Duration, Instant};

    #[test]
    fn the_child_has_its_namespace_no_descriptor_and_goes_when_killed() {
        let pid = spawn_in_user_namespace().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() > 0 {
            assert!(Instant::now() < deadline, "it keeps its descriptors");
        }
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
        assert_ne!(namespace(&pid.to_string()), namespace("self"));
        assert_eq!(fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap(), "");
        assert_eq!(SigSet::thread_get_mask().unwrap(), SigSet::empty(), "our own mask is back");
        PidFd::open(pid).unwrap().send_signal(9).unwrap();
        loop {
            assert!(Instant::now() < deadline, "it stays");
            if reap_next().unwrap().is_some_and(|reaped| reaped.pid == pid) {
                break;
            }
        }
    }
}
