// SPDX-License-Identifier: Apache-2.0
//! Which descriptors a child inherits.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::fcntl::{FcntlArg, fcntl};

/// Makes `command` start its program with `fd` open under `number`, 3 for instance. The
/// descriptor stays open here until the command is dropped. Several are passed in the order of
/// their numbers.
///
/// # Errors
/// The error of fcntl(2) when no descriptor is free.
pub fn pass_fd(command: &mut Command, fd: OwnedFd, number: RawFd) -> io::Result<()> {
    // The lowest free descriptor from `number` on. Whether or not it is `number` itself, that one
    // is in use now: std cannot get it for the pipe on which the child reports a failed exec, so
    // the dup2 below cannot overwrite that pipe.
    let copy = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(number))?;
    // SAFETY: the kernel has just installed this descriptor for us, nobody else knows its number.
    let copy = unsafe { OwnedFd::from_raw_fd(copy) };
    let place = move || {
        let _held = &fd;
        place(copy.as_raw_fd(), number)
    };
    // SAFETY: the closure runs between fork and exec, where only async-signal-safe calls are
    // allowed: it makes one system call and neither allocates nor takes a lock.
    unsafe { command.pre_exec(place) };
    Ok(())
}

fn place(from: RawFd, number: RawFd) -> io::Result<()> {
    let result = if from == number {
        // SAFETY: F_SETFD takes no pointer. This is the child: only its own flag changes.
        unsafe { libc::fcntl(number, libc::F_SETFD, 0) }
    } else {
        // SAFETY: dup2 takes two numbers. What `number` was in the child is close-on-exec or not
        // wanted; the copy it becomes is not close-on-exec.
        unsafe { libc::dup2(from, number) }
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Marks every open descriptor from `first` on close-on-exec, close_range(2), so that nothing
/// this process was started with by accident reaches a container.
///
/// # Errors
/// `ENOSYS` or `EINVAL` before Linux 5.11.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // SAFETY: close_range takes three integers, and this flag closes nothing now.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, Write};
    use std::process::Stdio;

    #[test]
    fn a_descriptor_arrives_under_its_number_and_no_other() {
        for number in [3, 4, 9] {
            let mut command = Command::new("/bin/ls");
            command.args(["-l", "/proc/self/fd"]).stdin(Stdio::null());
            pass_fd(&mut command, tempfile::tempfile().unwrap().into(), number).unwrap();
            let listing = String::from_utf8(command.output().unwrap().stdout).unwrap();
            let ours: Vec<&str> = listing.lines().filter(|line| line.contains("/#")).collect();
            let [line] = ours.as_slice() else { panic!("not exactly once: {listing}") };
            assert!(line.contains(&format!(" {number} -> ")), "{line}");
        }
    }

    #[test]
    fn several_descriptors_do_not_overwrite_each_other() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "cat <&3; cat <&4; cat <&5"]).stdin(Stdio::null());
        for number in 3..=5 {
            let mut file = tempfile::tempfile().unwrap();
            write!(file, "{number} ").unwrap();
            file.rewind().unwrap();
            pass_fd(&mut command, file.into(), number).unwrap();
        }
        assert_eq!(command.output().unwrap().stdout, b"3 4 5 ");
    }

    #[test]
    fn a_failed_exec_is_still_reported() {
        let mut command = Command::new("/nonexistent/program");
        pass_fd(&mut command, tempfile::tempfile().unwrap().into(), 3).unwrap();
        assert_eq!(command.spawn().unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn an_inheritable_descriptor_becomes_close_on_exec() {
        let file = tempfile::tempfile().unwrap();
        fcntl(&file, FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
        close_on_exec_from(3).unwrap();
        assert_eq!(fcntl(&file, FcntlArg::F_GETFD).unwrap(), libc::FD_CLOEXEC);
    }
}
