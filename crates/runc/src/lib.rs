// SPDX-License-Identifier: Apache-2.0
//! Containers that runc or crun made, without runc or crun: their small commands, on their state on
//! disk.
//!
//! [`Container::load`] reads the state once, when the container was made. From then on `start`,
//! `kill`, `pause`, `resume`, `ps` and `delete` are a few system calls each, with the effects and in
//! the words of the runtime: its own commands work on the container before and after, in any order, for
//! there is no status on disk. What these cannot do as the runtime does is [`Unsupported`], and
//! nothing has happened then: the runtime itself is for that. Of crun's words this crate has none:
//! whatever crun would refuse is crun's to refuse. docs/commands.md has the list.
//!
//! Like runc, this is not safe against two commands that change the same container at a time; the
//! caller queues them.
#![forbid(unsafe_code)]

mod container;
mod crun;
mod delete;
mod dialect;
mod directory;
mod error;
mod kill;
mod pause;
mod start;
mod state;

pub use container::{Container, Place};
pub use crun::Crun;
pub use dialect::Dialect;
pub use directory::{find_dialect, read_file, read_state};
pub use error::{Error, Failure, Unsupported};
#[doc(hidden)]
pub use state::fuzzing;
pub use state::start_time;
