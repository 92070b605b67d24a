// SPDX-License-Identifier: Apache-2.0
//! Finding and executing the program, as Go's os/exec and runc do.

use core::ffi::CStr;

use wedge_setns_wire::{Plan, Stage, fd, flags};

use crate::call;
use crate::kernel::{S_IFDIR, S_IFMT, S_IFREG, errno};
use crate::report::{fail, reach, step};
use crate::sys::{Errno, Result};
use crate::work::Work;

/// The exit status of a process whose program the kernel refused, as of runc's.
const REFUSED: i32 = 255;
/// As of crun's.
const REFUSED_BY_CRUN: i32 = 1;

/// The first candidate that may be executed, with the process's own identity and capabilities.
pub(crate) fn find(plan: &Plan<'static>) -> &'static CStr {
    reach(plan, Stage::NotFound);
    let table = plan.header().candidates;
    for candidate in (0..plan.entries(table)).filter_map(|index| plan.entry(table, index)) {
        match usable(candidate) {
            Ok(()) if !plan.has(flags::SEARCH) || candidate.to_bytes().starts_with(b"/") => {
                return candidate;
            }
            Ok(()) => fail(Stage::ProgramRelative, Errno(0), b""),
            Err((stage, error)) if !plan.has(flags::SEARCH) => {
                fail(stage, error, candidate.to_bytes())
            }
            Err(_) => {}
        }
    }
    fail(Stage::NotFound, Errno(0), b"")
}

/// As crun does, before the process is the user's: what is no file that root may execute is the
/// end, but for one that is not there at all.
pub(crate) fn find_as_root(plan: &Plan<'static>) -> &'static CStr {
    reach(plan, Stage::NotFound);
    let table = plan.header().candidates;
    for candidate in (0..plan.entries(table)).filter_map(|index| plan.entry(table, index)) {
        match call::state(0, Some(candidate)) {
            Err(Errno(errno::ENOENT)) if plan.has(flags::SEARCH) => continue,
            Err(error) => fail(Stage::ProgramStat, error, b""),
            Ok(state) if state.mode & S_IFMT != S_IFREG => {
                fail(Stage::ProgramIsDirectory, Errno(errno::EPERM), b"")
            }
            Ok(state) => match access(candidate, state.mode) {
                Ok(()) => return candidate,
                Err(error) => fail(Stage::ProgramAccess, error, b""),
            },
        }
    }
    fail(Stage::NotFound, Errno(0), b"")
}

fn usable(path: &CStr) -> core::result::Result<(), (Stage, Errno)> {
    let mode = call::state(0, Some(path)).map_err(|error| (Stage::ProgramStat, error))?.mode;
    if mode & S_IFMT == S_IFDIR {
        return Err((Stage::ProgramIsDirectory, Errno(0)));
    }
    access(path, mode).map_err(|error| (Stage::ProgramAccess, error))
}

fn access(path: &CStr, mode: u16) -> Result<()> {
    match call::may_execute(path) {
        // A filter around the whole machine may know no faccessat2.
        Err(Errno(errno::ENOSYS | errno::EPERM)) if mode & 0o111 != 0 => Ok(()),
        Err(Errno(errno::ENOSYS | errno::EPERM)) => Err(Errno(errno::EACCES)),
        other => other,
    }
}

/// Becomes the program. The shim has been told of success by now, as by runc: what execve refuses
/// is the process's own failure, with a line on its standard error.
pub(crate) fn execute(plan: &Plan<'_>, work: &Work, path: &CStr) -> ! {
    step(plan, Stage::Execute, || call::close(fd::CONTROL));
    let error = work.execute(path);
    if plan.has(flags::CRUN) {
        let text = describe(error);
        let (first, rest) = text.split_at_checked(1).unwrap_or_default();
        for text in
            [&b"exec: "[..], &[first.first().map_or(b' ', u8::to_ascii_uppercase)], rest, b"\n"]
        {
            _ = call::write(2, text);
        }
        call::exit(REFUSED_BY_CRUN);
    }
    for text in [&b"exec "[..], path.to_bytes(), b": ", describe(error), b"\n"] {
        _ = call::write(2, text);
    }
    call::exit(REFUSED)
}

/// Go's text for what execve(2) answers.
fn describe(error: Errno) -> &'static [u8] {
    match error.0 {
        1 => b"operation not permitted",
        2 => b"no such file or directory",
        5 => b"input/output error",
        7 => b"argument list too long",
        8 => b"exec format error",
        11 => b"resource temporarily unavailable",
        12 => b"cannot allocate memory",
        13 => b"permission denied",
        14 => b"bad address",
        20 => b"not a directory",
        21 => b"is a directory",
        22 => b"invalid argument",
        23 => b"too many open files in system",
        24 => b"too many open files",
        26 => b"text file busy",
        36 => b"file name too long",
        40 => b"too many levels of symbolic links",
        80 => b"accessing a corrupted shared library",
        _ => b"unknown error",
    }
}
