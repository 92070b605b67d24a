// SPDX-License-Identifier: Apache-2.0
//! Numbers and structures of the kernel's interface (`include/uapi` of Linux), x86_64.

/// System calls, `asm/unistd_64.h`.
pub(crate) mod nr {
    pub(crate) const READ: usize = 0;
    pub(crate) const WRITE: usize = 1;
    pub(crate) const CLOSE: usize = 3;
    pub(crate) const MMAP: usize = 9;
    pub(crate) const RT_SIGACTION: usize = 13;
    pub(crate) const IOCTL: usize = 16;
    #[cfg(failpoints)]
    pub(crate) const GETPID: usize = 39;
    #[cfg(failpoints)]
    pub(crate) const KILL: usize = 62;
    pub(crate) const SENDMSG: usize = 46;
    pub(crate) const RECVMSG: usize = 47;
    pub(crate) const GETSOCKOPT: usize = 55;
    pub(crate) const EXECVE: usize = 59;
    pub(crate) const GETCWD: usize = 79;
    pub(crate) const CHDIR: usize = 80;
    pub(crate) const FCHOWN: usize = 93;
    pub(crate) const UMASK: usize = 95;
    pub(crate) const SETUID: usize = 105;
    pub(crate) const SETGID: usize = 106;
    pub(crate) const SETSID: usize = 112;
    pub(crate) const SETGROUPS: usize = 116;
    pub(crate) const SETRESUID: usize = 117;
    pub(crate) const SETRESGID: usize = 119;
    pub(crate) const CAPGET: usize = 125;
    pub(crate) const CAPSET: usize = 126;
    pub(crate) const PERSONALITY: usize = 135;
    pub(crate) const FSTATFS: usize = 138;
    pub(crate) const PRCTL: usize = 157;
    pub(crate) const SCHED_SETAFFINITY: usize = 203;
    pub(crate) const EXIT_GROUP: usize = 231;
    pub(crate) const KEYCTL: usize = 250;
    pub(crate) const IOPRIO_SET: usize = 251;
    pub(crate) const OPENAT: usize = 257;
    pub(crate) const DUP3: usize = 292;
    pub(crate) const PRLIMIT64: usize = 302;
    pub(crate) const SETNS: usize = 308;
    pub(crate) const SCHED_SETATTR: usize = 314;
    pub(crate) const SECCOMP: usize = 317;
    pub(crate) const STATX: usize = 332;
    pub(crate) const FSOPEN: usize = 430;
    pub(crate) const FSCONFIG: usize = 431;
    pub(crate) const FSMOUNT: usize = 432;
    pub(crate) const CLONE3: usize = 435;
    pub(crate) const CLOSE_RANGE: usize = 436;
    pub(crate) const FACCESSAT2: usize = 439;
}

/// Errors that are looked at, `asm-generic/errno.h`.
pub(crate) mod errno {
    pub(crate) const EPERM: i32 = 1;
    pub(crate) const ENOENT: i32 = 2;
    pub(crate) const EINTR: i32 = 4;
    pub(crate) const EACCES: i32 = 13;
    pub(crate) const EINVAL: i32 = 22;
    pub(crate) const EROFS: i32 = 30;
    pub(crate) const ENOSYS: i32 = 38;
}

/// `fcntl.h`.
pub(crate) mod open {
    pub(crate) const WRITE_ONLY: i32 = 0o1;
    pub(crate) const READ_WRITE: i32 = 0o2;
    pub(crate) const NO_CTTY: i32 = 0o400;
    pub(crate) const NONBLOCK: i32 = 0o4000;
    pub(crate) const NOFOLLOW: i32 = 0o400_000;
    pub(crate) const CLOEXEC: i32 = 0o2_000_000;
    pub(crate) const PATH: i32 = 0o10_000_000;
    /// `AT_FDCWD`.
    pub(crate) const AT_CWD: i32 = -100;
}

/// `linux/prctl.h`.
pub(crate) mod prctl {
    pub(crate) const SET_DUMPABLE: usize = 4;
    pub(crate) const SET_KEEPCAPS: usize = 8;
    pub(crate) const SET_NAME: usize = 15;
    pub(crate) const CAPBSET_DROP: usize = 24;
    pub(crate) const SET_NO_NEW_PRIVS: usize = 38;
    pub(crate) const CAP_AMBIENT: usize = 47;
    pub(crate) const CAP_AMBIENT_RAISE: usize = 2;
    pub(crate) const CAP_AMBIENT_CLEAR_ALL: usize = 4;
}

/// `asm-generic/ioctls.h`.
pub(crate) mod ioctl {
    pub(crate) const TIOCSCTTY: usize = 0x540E;
    pub(crate) const TIOCSWINSZ: usize = 0x5414;
    pub(crate) const TIOCSPTLCK: usize = 0x4004_5431;
    pub(crate) const TIOCGPTPEER: usize = 0x5441;
}

/// `asm/signal.h`.
pub(crate) const SIGCHLD: u32 = 17;
/// See above.
#[cfg(failpoints)]
pub(crate) const SIGKILL: usize = 9;
#[cfg(failpoints)]
pub(crate) const SIGSTOP: usize = 19;
/// The bit of `CAP_SETPCAP`, `linux/capability.h`.
pub(crate) const CAP_SETPCAP: u64 = 1 << 8;
/// The bit of `CAP_SYS_ADMIN`.
pub(crate) const CAP_SYS_ADMIN: u64 = 1 << 21;
/// The flag of setns(2) for a user namespace, `linux/sched.h`.
pub(crate) const CLONE_NEWUSER: u32 = 0x1000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// `linux/magic.h`.
pub(crate) const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;
/// The file type in a mode, and the types that are looked at, `linux/stat.h`.
pub(crate) const S_IFMT: u16 = 0o170_000;
pub(crate) const S_IFCHR: u16 = 0o020_000;
pub(crate) const S_IFDIR: u16 = 0o040_000;
pub(crate) const S_IFBLK: u16 = 0o060_000;
pub(crate) const S_IFREG: u16 = 0o100_000;

/// `struct statx`, `linux/stat.h`.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Statx {
    mask: u32,
    blksize: u32,
    attributes: u64,
    nlink: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u16,
    spare: u16,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    blocks: u64,
    attributes_mask: u64,
    times: [[u64; 2]; 4],
    pub(crate) rdev_major: u32,
    pub(crate) rdev_minor: u32,
    dev_major: u32,
    dev_minor: u32,
    rest: [u64; 14],
}

/// `struct clone_args`, `linux/sched.h`, first version.
#[repr(C)]
#[derive(Default)]
pub(crate) struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

impl CloneArgs {
    /// A child, in `cgroup` if there is one.
    pub(crate) fn of_child(cgroup: Option<i32>) -> CloneArgs {
        let (flags, cgroup) = match cgroup {
            Some(cgroup) => (CLONE_INTO_CGROUP, cgroup.unsigned_abs().into()),
            None => (0, 0),
        };
        CloneArgs { flags, cgroup, exit_signal: u64::from(SIGCHLD), ..CloneArgs::default() }
    }
}

/// The kernel's `struct sigaction`, `asm/signal.h`.
#[repr(C)]
#[derive(Default)]
pub(crate) struct SigAction {
    pub(crate) handler: usize,
    pub(crate) flags: u64,
    pub(crate) restorer: usize,
    pub(crate) mask: u64,
}

/// `struct __user_cap_header_struct`, `linux/capability.h`.
#[repr(C)]
pub(crate) struct CapHeader {
    pub(crate) version: u32,
    pub(crate) pid: i32,
}

/// `struct __user_cap_data_struct`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct CapData {
    pub(crate) effective: u32,
    pub(crate) permitted: u32,
    pub(crate) inheritable: u32,
}

/// `struct sock_fprog`, `linux/filter.h`.
#[repr(C)]
pub(crate) struct FilterProgram {
    pub(crate) count: u16,
    pub(crate) filter: *const u8,
}

/// `struct winsize`, `asm-generic/termios.h`.
#[repr(C)]
#[derive(Default)]
pub(crate) struct WinSize {
    pub(crate) rows: u16,
    pub(crate) columns: u16,
    pub(crate) pixels: [u16; 2],
}

/// `struct iovec`, `linux/uio.h`.
#[repr(C)]
pub(crate) struct IoVec {
    pub(crate) base: usize,
    pub(crate) length: usize,
}

/// `struct user_msghdr`, `linux/socket.h`.
#[repr(C)]
pub(crate) struct MsgHdr {
    pub(crate) name: usize,
    pub(crate) name_length: usize,
    pub(crate) iov: usize,
    pub(crate) iov_count: usize,
    pub(crate) control: usize,
    pub(crate) control_length: usize,
    pub(crate) flags: usize,
}

/// A `struct cmsghdr` with room for descriptors, and what follows it up to the next multiple of 8.
#[repr(C)]
pub(crate) struct Rights {
    pub(crate) length: usize,
    pub(crate) level: i32,
    pub(crate) kind: i32,
    pub(crate) fds: [i32; MOST_FDS],
}

/// As many descriptors as ever come with a message, and an even number.
pub(crate) const MOST_FDS: usize = 8;
