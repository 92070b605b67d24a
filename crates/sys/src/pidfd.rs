// SPDX-License-Identifier: Apache-2.0
//! A process by descriptor, so that a reused pid is never signalled.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

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
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_can_be_opened_and_probed() {
        let own = PidFd::open(std::process::id()).unwrap();
        own.send_signal(0).unwrap();
        assert_eq!(own.send_signal(99).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn a_pid_that_cannot_exist_is_an_error() {
        assert!(PidFd::open(u32::MAX).is_err());
    }
}
