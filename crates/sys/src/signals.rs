// SPDX-License-Identifier: Apache-2.0
//! Signals a short-lived mode of the shim does not want to die of.

use std::io;

/// Ignores SIGTERM and SIGINT: `start` and `delete` finish what they began, whoever stops the
/// daemon meanwhile. Children need [`crate::prepare_child`], for an ignored signal survives exec.
///
/// # Errors
/// The error of signal(2).
pub fn ignore_termination() -> io::Result<()> {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: SIG_IGN is not a function of ours, so no handler can run in a bad place.
        if unsafe { libc::signal(signal, libc::SIG_IGN) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
