// SPDX-License-Identifier: Apache-2.0
//! Taking over descriptors that were inherited by number.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;

/// Numbers already taken, so that one descriptor never gets two owners.
static TAKEN: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// Takes ownership of descriptor number `fd`, inherited from the parent process, and marks it
/// close-on-exec.
///
/// # Errors
/// `EBADF` when nothing is open under that number, `EEXIST` when it was taken before.
pub fn take_inherited(fd: RawFd) -> io::Result<OwnedFd> {
    let mut taken = TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if taken.contains(&fd) {
        return Err(io::Error::from_raw_os_error(libc::EEXIST));
    }
    // SAFETY: F_SETFD takes no pointer; a number that is not open gives EBADF and changes nothing.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    taken.push(fd);
    // SAFETY: fcntl above showed that the number is open, and TAKEN shows that this process made
    // no owner for it before: callers name only numbers that the parent passed down, before
    // anything of our own is opened under them.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes standard error (descriptor 2) refer to the same file as `target`, dup2(2).
///
/// # Errors
/// The error of dup2.
pub fn stderr_to(target: impl AsFd) -> io::Result<()> {
    // SAFETY: dup2 takes two numbers; the source is borrowed for the call, and descriptor 2 is
    // owned by the process as a whole, std never closes it.
    if unsafe { libc::dup2(target.as_fd().as_raw_fd(), libc::STDERR_FILENO) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::IntoRawFd;

    #[test]
    fn an_inherited_descriptor_is_taken_once() {
        let file = tempfile::tempfile().unwrap();
        let number = OwnedFd::from(file).into_raw_fd();
        let owned = take_inherited(number).unwrap();
        assert_eq!(take_inherited(number).unwrap_err().raw_os_error(), Some(libc::EEXIST));
        drop(owned);
    }

    #[test]
    fn a_closed_number_is_refused() {
        assert_eq!(take_inherited(9999).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }
}
