// SPDX-License-Identifier: Apache-2.0
//! The kernel's errors: in the words that clients of containerd know, and whether they pass.

use std::io;

/// An error of the kernel as Go spells it: "no such file or directory".
pub fn go_text(err: &io::Error) -> String {
    let text = err.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    match (chars.next(), text.chars().nth(1)) {
        (Some(first), Some(second)) if second.is_lowercase() => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}

/// Whether it may be otherwise the next time: there were not enough descriptors, processes or
/// memory.
pub fn is_passing(err: &io::Error) -> bool {
    const PASSING: [i32; 6] =
        [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS, libc::EAGAIN, libc::EINTR];
    err.raw_os_error().is_some_and(|errno| PASSING.contains(&errno))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;

    #[test]
    fn errnos_are_spelt_as_go_does() {
        let table = [
            (Errno::ENOENT, "no such file or directory"),
            (Errno::EBUSY, "device or resource busy"),
            (Errno::EIO, "input/output error"),
            (Errno::ENODEV, "no such device"),
        ];
        for (errno, text) in table {
            assert_eq!(go_text(&io::Error::from(errno)), text);
        }
        assert_eq!(go_text(&io::Error::other("RPC failed")), "RPC failed");
        assert_eq!(go_text(&io::Error::other("")), "");
    }
}
