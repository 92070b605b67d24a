// SPDX-License-Identifier: Apache-2.0
//! System calls as safe functions. Descriptors are numbers: this program has a handful, and every
//! one of them is closed by the program it executes or by its own end.

use core::ffi::CStr;

use crate::kernel::{
    CloneArgs, FilterProgram, SIGCHLD, SigAction, Statx, WinSize, ioctl, nr, open,
};
use crate::sys::{Errno, Result, syscall};

pub(crate) fn exit(status: i32) -> ! {
    loop {
        // SAFETY: exit_group takes a number and does not return.
        let ended = unsafe { syscall(nr::EXIT_GROUP, [number(status)]) };
        debug_assert!(ended.is_err());
    }
}

/// Ends or stops this process as somebody else would, for tests.
#[cfg(failpoints)]
pub(crate) fn signal_self(signal: usize) {
    // SAFETY: getpid takes nothing.
    let pid = unsafe { syscall(nr::GETPID, []) };
    // SAFETY: kill takes numbers.
    let sent = pid.and_then(|pid| unsafe { syscall(nr::KILL, [pid, signal]) });
    if sent.is_err() {
        exit(255);
    }
}

pub(crate) fn read(fd: i32, buffer: &mut [u8]) -> Result<usize> {
    loop {
        // SAFETY: the kernel writes at most `len` bytes into the borrowed buffer.
        let result =
            unsafe { syscall(nr::READ, [number(fd), buffer.as_mut_ptr().addr(), buffer.len()]) };
        if !interrupted(result) {
            return result;
        }
    }
}

pub(crate) fn write(fd: i32, bytes: &[u8]) -> Result<usize> {
    loop {
        // SAFETY: the kernel reads `len` bytes of the borrowed slice.
        let result =
            unsafe { syscall(nr::WRITE, [number(fd), bytes.as_ptr().addr(), bytes.len()]) };
        if !interrupted(result) {
            return result;
        }
    }
}

pub(crate) fn close(fd: i32) -> Result<()> {
    // SAFETY: takes a number; nothing in this program keeps a descriptor it has closed.
    unsafe { syscall(nr::CLOSE, [number(fd)]) }.map(drop)
}

/// Closes every descriptor from `first` on.
pub(crate) fn close_from(first: u32) -> Result<()> {
    // SAFETY: as close(2).
    unsafe { syscall(nr::CLOSE_RANGE, [word(first), word(u32::MAX), 0]) }.map(drop)
}

/// openat(2), always close-on-exec.
pub(crate) fn open_at(directory: i32, path: &CStr, flags: i32) -> Result<i32> {
    let flags = number(flags | open::CLOEXEC);
    // SAFETY: the path is a string that ends.
    unsafe { syscall(nr::OPENAT, [number(directory), path.as_ptr().addr(), flags, 0]) }.map(fd)
}

pub(crate) fn open_file(path: &CStr, flags: i32) -> Result<i32> {
    open_at(open::AT_CWD, path, flags)
}

pub(crate) fn duplicate(fd: i32, to: i32) -> Result<()> {
    // SAFETY: takes numbers; `to` is one of the standard streams, which nobody here owns.
    unsafe { syscall(nr::DUP3, [number(fd), number(to), 0]) }.map(drop)
}

/// The state of a descriptor, or of `path` when there is one.
pub(crate) fn state(fd: i32, path: Option<&CStr>) -> Result<Statx> {
    const AT_EMPTY_PATH: usize = 0x1000;
    const BASIC_STATS: usize = 0x7ff;
    let (directory, path, flags) = match path {
        Some(path) => (open::AT_CWD, path, 0),
        None => (fd, c"", AT_EMPTY_PATH),
    };
    let mut state = Statx::default();
    let into = (&raw mut state).addr();
    // SAFETY: the path ends, and the kernel fills one structure of this layout.
    unsafe {
        syscall(nr::STATX, [number(directory), path.as_ptr().addr(), flags, BASIC_STATS, into])
    }?;
    Ok(state)
}

/// The length of a file in bytes.
pub(crate) fn size(fd: i32) -> Result<u64> {
    state(fd, None).map(|state| state.size)
}

/// The type of the file system a descriptor is on, `f_type` of statfs(2).
pub(crate) fn filesystem(fd: i32) -> Result<i64> {
    // `struct statfs` is 120 bytes long and begins with the type.
    let mut statfs = [0_i64; 16];
    // SAFETY: the kernel writes 120 bytes into the 128 of the array.
    unsafe { syscall(nr::FSTATFS, [number(fd), statfs.as_mut_ptr().addr()]) }?;
    Ok(statfs[0])
}

pub(crate) fn change_directory(path: &CStr) -> Result<()> {
    // SAFETY: the path ends.
    unsafe { syscall(nr::CHDIR, [path.as_ptr().addr()]) }.map(drop)
}

/// The working directory as the kernel names it, with its NUL.
pub(crate) fn working_directory(buffer: &mut [u8]) -> Result<&[u8]> {
    // SAFETY: the kernel writes at most `len` bytes.
    let count = unsafe { syscall(nr::GETCWD, [buffer.as_mut_ptr().addr(), buffer.len()]) }?;
    Ok(buffer.get(..count).unwrap_or_default())
}

/// Whether `path` may be executed with the effective ids, faccessat2(2).
pub(crate) fn may_execute(path: &CStr) -> Result<()> {
    const X_OK: usize = 1;
    const AT_EACCESS: usize = 0x200;
    let args = [number(open::AT_CWD), path.as_ptr().addr(), X_OK, AT_EACCESS];
    // SAFETY: the path ends.
    unsafe { syscall(nr::FACCESSAT2, args) }.map(drop)
}

pub(crate) fn change_owner(fd: i32, uid: u32, gid: u32) -> Result<()> {
    // SAFETY: takes numbers.
    unsafe { syscall(nr::FCHOWN, [number(fd), word(uid), word(gid)]) }.map(drop)
}

/// prctl(2) with numbers only.
pub(crate) fn prctl(operation: usize, first: usize, second: usize) -> Result<()> {
    // SAFETY: every operation used here takes numbers; SET_NAME has a function of its own.
    unsafe { syscall(nr::PRCTL, [operation, first, second, 0, 0]) }.map(drop)
}

pub(crate) fn set_name(name: &CStr) -> Result<()> {
    // SAFETY: the kernel copies at most 16 bytes of a string that ends.
    unsafe { syscall(nr::PRCTL, [crate::kernel::prctl::SET_NAME, name.as_ptr().addr(), 0, 0, 0]) }
        .map(drop)
}

/// A call that takes only numbers: identities, namespaces, sessions and the like.
pub(crate) fn plain<const N: usize>(call: Plain, args: [u32; N]) -> Result<usize> {
    // SAFETY: none of the calls `Plain` names takes a pointer.
    unsafe { syscall(call.number(), args.map(word)) }
}

macro_rules! plain_calls {
    ($($name:ident = $number:ident,)*) => {
        /// System calls without pointers.
        #[derive(Clone, Copy)]
        pub(crate) enum Plain { $($name,)* }

        impl Plain {
            fn number(self) -> usize {
                match self { $(Plain::$name => nr::$number,)* }
            }
        }
    };
}

plain_calls! {
    Umask = UMASK,
    SetUid = SETUID,
    SetGid = SETGID,
    SetSid = SETSID,
    SetResUid = SETRESUID,
    SetResGid = SETRESGID,
    Personality = PERSONALITY,
    IoprioSet = IOPRIO_SET,
    SetNs = SETNS,
    FsMount = FSMOUNT,
}

/// Sets a limit of this process; `limit` is a `struct rlimit64`.
pub(crate) fn set_limit(resource: u64, limit: &[u8; 16]) -> Result<()> {
    let resource = usize::try_from(resource).map_err(|_| Errno(crate::kernel::errno::EINVAL))?;
    // SAFETY: the kernel reads the sixteen bytes, and writes no old limit without a place for it.
    unsafe { syscall(nr::PRLIMIT64, [0, resource, limit.as_ptr().addr(), 0]) }.map(drop)
}

/// The ends of children are not waited for: they leave no zombie.
pub(crate) fn ignore_children() -> Result<()> {
    const SIG_IGN: usize = 1;
    handle_children(SIG_IGN)
}

/// They are, as by default.
pub(crate) fn await_children() -> Result<()> {
    const SIG_DFL: usize = 0;
    handle_children(SIG_DFL)
}

fn handle_children(handler: usize) -> Result<()> {
    let action = SigAction { handler, ..SigAction::default() };
    let from = (&raw const action).addr();
    // SAFETY: the kernel reads one structure of this layout; no handler is installed.
    unsafe { syscall(nr::RT_SIGACTION, [word(SIGCHLD), from, 0, size_of::<u64>()]) }.map(drop)
}

pub(crate) fn set_affinity(mask: &[u8]) -> Result<()> {
    // SAFETY: the kernel reads `len` bytes.
    unsafe { syscall(nr::SCHED_SETAFFINITY, [0, mask.len(), mask.as_ptr().addr()]) }.map(drop)
}

pub(crate) fn set_groups(groups: &[u8]) -> Result<()> {
    // SAFETY: the kernel reads `len / 4` group ids of four bytes.
    unsafe { syscall(nr::SETGROUPS, [groups.len() / 4, groups.as_ptr().addr()]) }.map(drop)
}

/// sched_setattr(2); the structure says its own size first.
pub(crate) fn set_scheduler(attributes: &[u8]) -> Result<()> {
    // SAFETY: the plan holds a whole `struct sched_attr`, whose size the shim wrote into it; the
    // kernel reads no more than that.
    unsafe { syscall(nr::SCHED_SETATTR, [0, attributes.as_ptr().addr(), 0]) }.map(drop)
}

pub(crate) fn join_session_keyring(name: &CStr) -> Result<()> {
    const JOIN_SESSION_KEYRING: usize = 1;
    // SAFETY: the kernel reads a string that ends.
    unsafe { syscall(nr::KEYCTL, [JOIN_SESSION_KEYRING, name.as_ptr().addr(), 0, 0, 0]) }.map(drop)
}

/// Loads a program for every system call of this process from now on.
pub(crate) fn load_filter(program: &[u8], flags: u32) -> Result<()> {
    const SET_MODE_FILTER: usize = 1;
    let count =
        u16::try_from(program.len() / 8).map_err(|_| Errno(crate::kernel::errno::EINVAL))?;
    let program = FilterProgram { count, filter: program.as_ptr() };
    let from = (&raw const program).addr();
    // SAFETY: the kernel reads `count` instructions of eight bytes, which the slice has.
    unsafe { syscall(nr::SECCOMP, [SET_MODE_FILTER, word(flags), from]) }.map(drop)
}

/// The slave of the pty whose master is `master`.
pub(crate) fn terminal_peer(master: i32) -> Result<i32> {
    let flags = number(open::READ_WRITE | open::NO_CTTY | open::CLOEXEC);
    // SAFETY: this request takes open flags by value.
    unsafe { syscall(nr::IOCTL, [number(master), ioctl::TIOCGPTPEER, flags]) }.map(fd)
}

pub(crate) fn unlock_terminal(master: i32) -> Result<()> {
    let unlocked = 0_i32;
    // SAFETY: the kernel reads one int.
    unsafe { syscall(nr::IOCTL, [number(master), ioctl::TIOCSPTLCK, (&raw const unlocked).addr()]) }
        .map(drop)
}

pub(crate) fn set_window_size(fd: i32, rows: u16, columns: u16) -> Result<()> {
    let size = WinSize { rows, columns, pixels: [0; 2] };
    let from = (&raw const size).addr();
    // SAFETY: the kernel reads one `struct winsize`.
    unsafe { syscall(nr::IOCTL, [number(fd), ioctl::TIOCSWINSZ, from]) }.map(drop)
}

pub(crate) fn control_terminal(fd: i32) -> Result<()> {
    // SAFETY: the request's argument is the number 0.
    unsafe { syscall(nr::IOCTL, [number(fd), ioctl::TIOCSCTTY, 0]) }.map(drop)
}

/// A private, writable mapping: of a file, or of zeros.
pub(crate) fn map(fd: Option<i32>, length: usize) -> Result<&'static mut [u8]> {
    const READ_WRITE: usize = 3;
    const PRIVATE: usize = 2;
    const ANONYMOUS: usize = 0x20;
    let (fd, flags) = match fd {
        Some(fd) => (fd, PRIVATE),
        None => (-1, PRIVATE | ANONYMOUS),
    };
    // SAFETY: the kernel chooses the place: nothing that exists is replaced.
    let at = unsafe { syscall(nr::MMAP, [0, length, READ_WRITE, flags, number(fd), 0]) }?;
    let at = core::ptr::with_exposed_provenance_mut(at);
    // SAFETY: the kernel has just made `length` readable and writable bytes here, which nobody
    // else knows of and nobody unmaps. The file behind them, if any, is at least as long and the
    // shim, its only other owner, does not change it.
    Ok(unsafe { core::slice::from_raw_parts_mut(at, length) })
}

/// fork(2), in `cgroup`, a directory of cgroup v2, if there is one. Returns the pid, 0 in the child.
pub(crate) fn fork(cgroup: Option<i32>) -> Result<u32> {
    let args = CloneArgs::of_child(cgroup);
    let from = (&raw const args).addr();
    // SAFETY: without CLONE_VM the child has a copy of this memory and this stack, and this
    // program has one thread: it goes on here as if nothing had happened.
    let pid = unsafe { syscall(nr::CLONE3, [from, size_of::<CloneArgs>()]) }?;
    u32::try_from(pid).map_err(|_| Errno(0))
}

/// execve(2). Returns only the error.
pub(crate) fn execute(
    path: &CStr,
    arguments: *const *const u8,
    environment: *const *const u8,
) -> Errno {
    loop {
        // SAFETY: both are arrays of strings that end, with a null at their ends: `work` made
        // them.
        let result = unsafe {
            syscall(nr::EXECVE, [path.as_ptr().addr(), arguments.addr(), environment.addr()])
        };
        match result {
            Err(error) if error.0 == crate::kernel::errno::EINTR => {}
            Err(error) => return error,
            Ok(_) => return Errno(0),
        }
    }
}

/// A new, detached instance of the file system `name`: a descriptor of its root.
pub(crate) fn new_filesystem(name: &CStr) -> Result<i32> {
    const FSOPEN_CLOEXEC: usize = 1;
    const FSCONFIG_CMD_CREATE: usize = 6;
    const FSMOUNT_CLOEXEC: u32 = 1;
    /// nosuid, nodev, noexec.
    const ATTRIBUTES: u32 = 0x2 | 0x4 | 0x8;
    // SAFETY: the name ends.
    let context = unsafe { syscall(nr::FSOPEN, [name.as_ptr().addr(), FSOPEN_CLOEXEC]) }.map(fd)?;
    // SAFETY: this command takes neither key nor value.
    unsafe { syscall(nr::FSCONFIG, [number(context), FSCONFIG_CMD_CREATE, 0, 0, 0]) }?;
    let args = [context.cast_unsigned(), FSMOUNT_CLOEXEC, ATTRIBUTES];
    let root = plain(Plain::FsMount, args).map(fd);
    close(context)?;
    root
}

fn interrupted(result: Result<usize>) -> bool {
    result == Err(Errno(crate::kernel::errno::EINTR))
}

/// An int as a register: sign-extended, as C would.
pub(crate) fn number(value: i32) -> usize {
    (value as isize).cast_unsigned()
}

fn word(value: u32) -> usize {
    value as usize
}

pub(crate) fn fd(value: usize) -> i32 {
    i32::try_from(value).unwrap_or(-1)
}
