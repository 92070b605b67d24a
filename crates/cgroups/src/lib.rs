// SPDX-License-Identifier: Apache-2.0
//! Looks at the cgroups of a container, freezes, kills and removes them; never creates or limits one.
//!
//! That is the OCI runtime's part. What is here reads small files of procfs and cgroupfs, which
//! the kernel answers from memory, so the functions are synchronous, but for those of [`Tree`] that
//! may have to wait for processes, or to look at many cgroups. The decision what comes from
//! cgroups-rs and what does not is in `docs/adr/0005-oom-monitor.md` and `docs/adr/0008-stats.md`.
#![forbid(unsafe_code)]

mod cgroup;
mod error;
mod hierarchy;
mod keyed;
mod memory;
mod oom;
mod path;
pub mod stats;
mod tree;

pub use cgroup::Cgroup;
pub use error::{Error, ErrorKind};
pub use hierarchy::{Mode, mode};
pub use memory::MemoryUse;
pub use oom::OomMonitor;
pub use stats::Stats;
pub use tree::Tree;
