// SPDX-License-Identifier: Apache-2.0
//! A process's seccomp filter, taken from it as the kernel has it, for another to load.
#![expect(unsafe_code, reason = "PTRACE_SECCOMP_GET_FILTER and seccomp(2) have no safe wrapper")]

use std::io;

use anyhow::{Context, Result};
use libc::{sock_filter, sock_fprog};
use nix::sys::ptrace;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

/// ptrace(2), Linux 4.4; needs CAP_SYS_ADMIN and CONFIG_CHECKPOINT_RESTORE.
const GET_FILTER: libc::c_uint = 0x420c;

/// A program of classic BPF.
pub(crate) struct Filter(Vec<sock_filter>);

impl Filter {
    /// The one that a process has loaded last.
    pub(crate) fn of(pid: i32) -> Result<Filter> {
        let pid = Pid::from_raw(pid);
        ptrace::attach(pid).context("attaching")?;
        waitpid(pid, None)?;
        let filter = read(pid);
        ptrace::detach(pid, None)?;
        filter.context("reading its filter")
    }

    /// Loads it for the calling thread, which may gain no privileges any more.
    pub(crate) fn load(&self) -> io::Result<()> {
        let len = u16::try_from(self.0.len()).map_err(io::Error::other)?;
        let program = sock_fprog { len, filter: self.0.as_ptr().cast_mut() };
        let (operation, flags) = (libc::SECCOMP_SET_MODE_FILTER, 0);
        // SAFETY: the kernel reads `len` instructions, which live for the call, and writes none.
        let done =
            unsafe { libc::syscall(libc::SYS_seccomp, operation, flags, &raw const program) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

fn read(pid: Pid) -> io::Result<Filter> {
    let latest = 0_usize;
    let nowhere = std::ptr::null_mut::<sock_filter>();
    // SAFETY: without a place to write to the kernel only returns how many instructions there are.
    let len = unsafe { libc::ptrace(GET_FILTER, pid.as_raw(), latest, nowhere) };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    let mut program = vec![sock_filter { code: 0, jt: 0, jf: 0, k: 0 }; len];
    // SAFETY: there is room for all instructions: the process is stopped, and can load no other.
    let read = unsafe { libc::ptrace(GET_FILTER, pid.as_raw(), latest, program.as_mut_ptr()) };
    if read < 0 { Err(io::Error::last_os_error()) } else { Ok(Filter(program)) }
}
