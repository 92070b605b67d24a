// SPDX-License-Identifier: Apache-2.0
//! Terminals.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Whether `fd` is a terminal.
pub fn is_tty(fd: impl AsFd) -> bool {
    // SAFETY: isatty takes a number, which is borrowed for the call.
    unsafe { libc::isatty(fd.as_fd().as_raw_fd()) == 1 }
}

/// Sets the window size of a terminal, `TIOCSWINSZ` of ioctl_tty(2).
///
/// # Errors
/// The error of ioctl, `ENOTTY` when `fd` is no terminal.
pub fn set_window_size(fd: impl AsFd, columns: u16, rows: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize, which lives for the call.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
