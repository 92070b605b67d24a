// SPDX-License-Identifier: Apache-2.0
//! Resource limits of other processes.

use std::io;
use std::ptr;

/// Sets a resource limit of another process, prlimit(2).
///
/// # Errors
/// `EINVAL` when `soft` is above `hard` or `resource` is unknown, `EPERM` to raise a hard limit
/// without CAP_SYS_RESOURCE, `ESRCH`.
pub fn set_limit_of(pid: u32, resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    let none: *mut libc::rlimit64 = ptr::null_mut();
    // SAFETY: the kernel reads one `struct rlimit64`, and writes none back.
    let result =
        unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, &raw const limit, none) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_set() {
        let pid = std::process::id();
        set_limit_of(pid, libc::RLIMIT_CORE, 1, 2).unwrap();
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core")).unwrap();
        assert!(core.split_whitespace().eq("Max core file size 1 2 bytes".split(' ')), "{core}");
        let error = set_limit_of(pid, libc::RLIMIT_CORE, 3, 2).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}
