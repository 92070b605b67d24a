// SPDX-License-Identifier: Apache-2.0
//! A process by descriptor, so that a reused pid is never signalled.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::poll::PollFlags;

use crate::watch::poll_now;

/// A process, referred to by pidfd_open(2). It stays this process when the pid is reused.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// Opens the process `pid`. A zombie that nobody reaped yet can be opened too.
    ///
    /// # Errors
    /// `ESRCH` when there is no such process, `EMFILE` and the like from the kernel.
    pub fn open(pid: u32) -> io::Result<PidFd> {
        // SAFETY: pidfd_open takes two integers and no pointer. The kernel sets close-on-exec.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_long::from(pid), 0) };
        let fd = RawFd::try_from(fd).map_err(|_| io::Error::last_os_error())?;
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor, nobody else knows its number.
        Ok(PidFd(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Sends `signal` (1 to 64, or 0 to probe), pidfd_send_signal(2).
    ///
    /// # Errors
    /// `ESRCH` when the process has been reaped, `EINVAL` for a signal that does not exist.
    pub fn send_signal(&self, signal: i32) -> io::Result<()> {
        let null: *const libc::siginfo_t = std::ptr::null();
        // SAFETY: a null siginfo is allowed and means "as kill(2)"; the descriptor is ours.
        let result = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), signal, null, 0)
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Whether the process has ended, all of its threads, reaped or not: the descriptor is readable
    /// then, pidfd_open(2).
    pub fn has_ended(&self) -> bool {
        poll_now(&self.0, PollFlags::POLLIN).is_ok_and(|found| !found.is_empty())
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollTimeout, poll};
    use std::process::Stdio;

    #[test]
    fn own_process_can_be_opened_and_probed() {
        let own = PidFd::open(std::process::id()).unwrap();
        own.send_signal(0).unwrap();
        assert_eq!(own.send_signal(99).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert!(!own.has_ended());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a child of the test's own")]
    fn a_zombie_has_ended_and_so_has_who_was_reaped() {
        let mut child = std::process::Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pidfd = PidFd::open(child.id()).unwrap();
        assert!(!pidfd.has_ended());
        drop(child.stdin.take());
        let mut zombie = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        poll(&mut zombie, PollTimeout::NONE).unwrap();
        assert!(pidfd.has_ended());
        pidfd.send_signal(0).unwrap();
        child.wait().unwrap();
        assert!(pidfd.has_ended());
        assert_eq!(pidfd.send_signal(0).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }

    #[test]
    fn a_pid_that_cannot_exist_is_an_error() {
        assert!(PidFd::open(u32::MAX).is_err());
    }
}
