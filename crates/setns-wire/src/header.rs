// SPDX-License-Identifier: Apache-2.0
//! The fixed part of a plan.

/// Where something is in the plan: an offset and a length, both in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slice {
    /// From the start of the plan.
    pub offset: u32,
    /// In bytes.
    pub len: u32,
}

/// A value of the header in native byte order.
pub(crate) trait Field: Sized {
    const SIZE: usize;
    fn read(bytes: &[u8], at: usize) -> Option<Self>;
    #[cfg(any(feature = "encode", test))]
    fn write(&self, out: &mut alloc::vec::Vec<u8>);
}

macro_rules! integer {
    ($($ty:ty),*) => {$(
        impl Field for $ty {
            const SIZE: usize = size_of::<$ty>();
            fn read(bytes: &[u8], at: usize) -> Option<$ty> {
                let bytes = bytes.get(at..at.checked_add(Self::SIZE)?)?;
                Some(<$ty>::from_ne_bytes(bytes.try_into().ok()?))
            }
            #[cfg(any(feature = "encode", test))]
            fn write(&self, out: &mut alloc::vec::Vec<u8>) {
                out.extend_from_slice(&self.to_ne_bytes());
            }
        }
    )*};
}
integer!(u32, i32, u64, i64);

impl Field for Slice {
    const SIZE: usize = 8;
    fn read(bytes: &[u8], at: usize) -> Option<Slice> {
        Some(Slice { offset: u32::read(bytes, at)?, len: u32::read(bytes, at.checked_add(4)?)? })
    }
    #[cfg(any(feature = "encode", test))]
    fn write(&self, out: &mut alloc::vec::Vec<u8>) {
        self.offset.write(out);
        self.len.write(out);
    }
}

macro_rules! header {
    ($($(#[$doc:meta])* $name:ident: $ty:ty,)*) => {
        /// The fixed part of a plan. What a flag does not announce is not looked at.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Header { $($(#[$doc])* pub $name: $ty,)* }

        impl Header {
            /// Bytes it takes in a plan.
            pub const SIZE: usize = 0 $(+ <$ty as Field>::SIZE)*;

            pub(crate) fn read(bytes: &[u8]) -> Option<Header> {
                let mut at = 0;
                $(
                    let $name = <$ty as Field>::read(bytes, at)?;
                    at += <$ty as Field>::SIZE;
                )*
                (at == Self::SIZE).then_some(Header { $($name,)* })
            }

            #[cfg(any(feature = "encode", test))]
            pub(crate) fn write(&self, out: &mut alloc::vec::Vec<u8>) {
                $(Field::write(&self.$name, out);)*
            }
        }
    };
}

header! {
    /// [`crate::MAGIC`].
    magic: u64,
    /// [`crate::VERSION`].
    version: u32,
    /// Length of the whole plan.
    total: u32,
    /// Bits of [`flags`].
    flags: u32,
    /// The namespaces to join, flags of setns(2).
    namespaces: u32,
    /// `/proc/PID/oom_score_adj`, with `OOM_SCORE`.
    oom_score_adj: i32,
    /// The file mode creation mask, with `UMASK`.
    umask: u32,
    /// The user, in the container's user namespace.
    uid: u32,
    /// The group, likewise.
    gid: u32,
    /// The highest capability the kernel knows.
    last_cap: u32,
    /// personality(2), with `PERSONALITY`.
    personality: u32,
    /// Class and level of ioprio_set(2), with `IO_PRIORITY`.
    io_priority: i32,
    /// Flags for seccomp(2).
    seccomp_flags: u32,
    /// Lines of the terminal, 0: unknown.
    rows: u32,
    /// Columns of the terminal, 0: unknown.
    columns: u32,
    /// Only in a helper built for tests: the stage at which it kills itself or, with
    /// [`crate::STOP`], stops. 0: none.
    failpoint: u32,
    /// Capability sets as masks.
    bounding: u64,
    /// See above.
    effective: u64,
    /// See above.
    permitted: u64,
    /// See above.
    inheritable: u64,
    /// See above.
    ambient: u64,
    /// `struct sched_attr` of sched_setattr(2), or empty.
    scheduler: Slice,
    /// CPU masks for sched_setaffinity(2) before and after the cgroup is joined, or empty.
    initial_cpus: Slice,
    /// See above.
    last_cpus: Slice,
    /// `cgroup.procs` files to join, a table.
    cgroups: Slice,
    /// The session keyring's name, one string, or empty.
    keyring: Slice,
    /// The AppArmor profile, one string, or empty.
    apparmor: Slice,
    /// The working directory, one string.
    cwd: Slice,
    /// Resource limits: number, soft and hard limit, `u64` each. Without `HELD`.
    limits: Slice,
    /// Supplementary groups, `u32` each.
    groups: Slice,
    /// The seccomp program, `struct sock_filter` each, or empty.
    seccomp: Slice,
    /// Where the program may be, in order: a table.
    candidates: Slice,
    /// Arguments, a table.
    arguments: Slice,
    /// Environment, a table. With `FIND_HOME` there is room for one more entry.
    environment: Slice,
}

/// What a plan asks for.
pub mod flags {
    /// Set `no_new_privs`.
    pub const NO_NEW_PRIVS: u32 = 1;
    /// Set the umask.
    pub const UMASK: u32 = 1 << 1;
    /// Set the OOM score.
    pub const OOM_SCORE: u32 = 1 << 2;
    /// Set the personality.
    pub const PERSONALITY: u32 = 1 << 3;
    /// Set the I/O priority.
    pub const IO_PRIORITY: u32 = 1 << 4;
    /// Open a terminal of the container.
    pub const TERMINAL: u32 = 1 << 5;
    /// Set the supplementary groups, also to none.
    pub const SET_GROUPS: u32 = 1 << 6;
    /// Append `HOME` from the container's `/etc/passwd`.
    pub const FIND_HOME: u32 = 1 << 7;
    /// The program was named without a slash: errors of single candidates do not count.
    pub const SEARCH: u32 = 1 << 8;
    /// A failure to set the last CPU mask is no error: the mask is a reset.
    pub const CPUS_BEST_EFFORT: u32 = 1 << 9;
    /// One of the cgroups is enough, the first that can be joined (v2); else all that exist (v1).
    pub const ANY_CGROUP: u32 = 1 << 10;
    /// The shim sets the resource limits: wait for it.
    pub const HELD: u32 = 1 << 11;
    /// What crun does otherwise than runc: the session is the joiner's, streams get the group too,
    /// the program is looked for by root, and what execve(2) refuses is told in other words.
    pub const CRUN: u32 = 1 << 12;
    /// Every flag there is.
    pub const ALL: u32 = (1 << 13) - 1;
}
