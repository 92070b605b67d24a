// SPDX-License-Identifier: Apache-2.0
//! Resource limits.

use std::io;
use std::ptr;
use std::sync::OnceLock;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The limit on descriptors before it was raised.
static INHERITED: OnceLock<libc::rlimit64> = OnceLock::new();

/// Lets this process have as many descriptors as its hard limit allows, as every Go program does
/// (os/rlimit.go). What [`crate::prepare_child`] prepares gets the soft limit that was inherited.
///
/// # Errors
/// Of getrlimit(2) and setrlimit(2).
pub fn raise_descriptor_limit() -> io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        // Raised a second time, it is what it was.
        INHERITED.get_or_init(|| libc::rlimit64 { rlim_cur: soft, rlim_max: hard });
    }
    Ok(())
}

/// The limit that children are to have, when it is not that of this process.
pub(crate) fn inherited_descriptor_limit() -> Option<libc::rlimit64> {
    INHERITED.get().copied()
}

/// Neither allocates nor takes a lock: for a forked child.
pub(crate) fn set_descriptor_limit(limit: &libc::rlimit64) -> io::Result<()> {
    // SAFETY: the kernel reads one `struct rlimit64`, which lives for the call.
    if unsafe { libc::setrlimit64(libc::RLIMIT_NOFILE, limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

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
    #[expect(clippy::disallowed_methods, reason = "a child of the test's own")]
    fn more_descriptors_are_for_this_process_only() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, 123, hard).unwrap();
        raise_descriptor_limit().unwrap();
        raise_descriptor_limit().unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "ulimit -Sn; ulimit -Hn"]);
        crate::prepare_child(&mut shell, false);
        let said = String::from_utf8(shell.output().unwrap().stdout).unwrap();
        assert_eq!(said.lines().next(), Some("123"));
        assert!(said.lines().nth(1).is_some_and(|line| line != "123"), "{said}");
    }

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
