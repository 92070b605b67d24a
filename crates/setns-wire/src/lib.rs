// SPDX-License-Identifier: Apache-2.0
//! What the shim and the setns helper say to each other: the exec plan, and reports.
//!
//! A plan is one flat block of bytes, so that the helper neither parses nor allocates: a header of
//! fixed size, then what its slices point to. The helper checks every offset before it uses one,
//! although the shim that wrote the plan is trusted.
//!
//! Both sides are always of one build (the helper is embedded in the shim), so the block is in
//! native byte order; the version guards against mistakes, not against other builds.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(feature = "encode", test))]
extern crate alloc;

#[cfg(any(feature = "encode", test))]
mod encode;
mod header;
mod nursery;
mod passwd;
mod plan;
mod report;
mod stage;

#[cfg(any(feature = "encode", test))]
pub use encode::Encoder;
pub use header::{Header, Slice, flags};
pub use nursery::REQUEST;
pub use passwd::{Entry, entry_of, home_of};
pub use plan::{Invalid, Plan};
pub use report::{AUX, GO, Kind, PACKET, Report};
pub use stage::Stage;

/// "wedgexec" in ASCII.
pub const MAGIC: u64 = 0x6365_7865_6764_6577;
/// Raised whenever the meaning of a byte changes.
pub const VERSION: u32 = 3;
/// The longest plan, in bytes: what execve(2) can take at most (6 MiB of strings) and the rest.
pub const LIMIT: usize = 8 << 20;
/// The most instructions of a seccomp program, `BPF_MAXINSNS` of the kernel.
pub const MAX_INSTRUCTIONS: usize = 4096;

/// In `failpoint`: SIGSTOP instead of SIGKILL.
pub const STOP: u32 = 1 << 31;

/// The descriptors of the helper, beside 0, 1 and 2. A request to the nursery brings those of a
/// joiner, in the order of their numbers from 0 on, and last, maybe, the cgroup it is born in.
pub mod fd {
    /// The control socket: SOCK_SEQPACKET, unix(7). That of the nursery has the same number.
    pub const CONTROL: i32 = 3;
    /// The plan: a memfd.
    pub const PLAN: i32 = 4;
    /// The container's init: a pidfd.
    pub const INIT: i32 = 5;
    /// How many come with a request.
    pub const COUNT: usize = 6;
}
