// SPDX-License-Identifier: Apache-2.0
//! The other end of a terminal.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Opens the slave of the pty whose master is `master`, close-on-exec and never as a controlling
/// terminal: `TIOCGPTPEER` of ioctl_tty(2), Linux 4.13. It works by descriptor, so the slave is
/// found in whatever mount namespace the pty was made.
///
/// # Errors
/// `ENOTTY` when `master` is no pty master, `EIO` while the slave is locked.
pub fn open_pty_peer(master: impl AsFd) -> io::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes the open flags as an integer and touches no memory; the master is
    // borrowed for the call.
    let fd = unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCGPTPEER, flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor, nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_that_is_no_master_has_no_peer() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(open_pty_peer(file).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
    }
}
