// SPDX-License-Identifier: Apache-2.0
//! Containers that runc made, without runc: its small commands, on its state on disk.
//!
//! [`Container::load`] reads `state.json` once, when the container was made. From then on `start`,
//! `kill`, `pause`, `resume`, `ps` and `delete` are a few system calls each, with the effects and in
//! the words of runc: its own commands work on the container before and after, in any order, for
//! there is no status on disk. What these cannot do as runc does is [`Unsupported`], and nothing
//! has happened then: runc itself is for that. docs/commands.md has the list.
//!
//! Like runc, this is not safe against two commands that change the same container at a time; the
//! caller queues them.
#![forbid(unsafe_code)]

mod container;
mod delete;
mod directory;
mod error;
mod kill;
mod pause;
mod start;
mod state;

pub use container::{Container, Place};
pub use directory::read_state;
pub use error::{Error, Failure, Unsupported};
#[doc(hidden)]
pub use state::fuzzing;
pub use state::start_time;
