// SPDX-License-Identifier: Apache-2.0
//! Exec without the OCI runtime: plans how a process joins a container, and has the setns helper
//! do it.
//!
//! [`Host`] is what is the same for every container, [`Container`] what is the same for every
//! exec of one, [`Container::exec`] is one exec. What the helper cannot reproduce exactly is
//! [`Failure::Unsupported`], before anything visible has happened: the OCI runtime's own exec is
//! for that (docs/exec.md has the list).
#![forbid(unsafe_code)]

pub mod affinity;
mod capabilities;
mod cgroup;
mod container;
mod crun;
mod environment;
mod error;
mod exec;
mod host;
mod limits;
mod namespaces;
mod nursery;
mod plan;
mod process;
mod schedule;
mod seccomp;
mod socket;
mod stages;
mod state;
mod talk;
mod text;

pub use container::{Container, Place};
pub use error::{Error, Failure, Unsupported};
pub use exec::{Started, Stdio};
pub use host::Host;
pub use seccomp::COMMAND as SECCOMP_COMMAND;
