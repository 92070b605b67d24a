// SPDX-License-Identifier: Apache-2.0
//! The domain: what a task is, and what may happen to it. No protobuf, no ttrpc.
//!
//! ```text
//! Sandbox ──▶ Task (container) ──▶ Process (init)        Lifecycle, ExitGate: pure decisions
//!                              └─▶ Process (exec) …      start, create, delete, exits: the acts
//! ```
//! A request goes down once: [`Sandbox`] finds the task, the task acts on one process. An exit
//! comes up once: reaper → [`Lifecycle`] (held while a start is under way) → [`ExitGate`] (init
//! waits for its execs) → state, `Wait` and event, in that order in one function.
//!
//! Invariants kept here:
//! * **I2** no exit is lost between spawn and pid known, none is published before its start event;
//! * **I3** create ≤ start ≤ (oom) ≤ exit ≤ delete per process, one exit per started process;
//! * **I4** init's exit is the last exit of its task, and the wait for execs is bounded;
//! * **I5** no exec starts after init was reaped;
//! * **I6** a failed or cancelled operation leaves the state as it was, and nothing behind;
//! * **I7** the OOM monitor is armed once per container, in the init's first Start;
//! * **I8** no state lock is held across an await or a runtime command.
//!
//! Two kinds of lock: `std::sync::Mutex` for state, held for a few lines and never across an
//! await; and one `tokio::sync::Mutex` per process, its *turn*, which only queues Start, Delete,
//! Pause, Resume, Update and Checkpoint of that process. Kill, State, Wait, Pids, Stats and Connect
//! take no turn.
#![forbid(unsafe_code)]

mod commands;
mod create;
mod delete;
mod error;
mod event;
mod exit_gate;
mod exits;
mod id;
mod lifecycle;
mod native;
mod oom;
mod process;
mod remains;
mod resources;
mod sandbox;
mod settings;
mod start;
mod task;

pub use create::CreateRequest;
pub use delete::Deleted;
pub use error::{Code, Error, Result};
pub use event::{Event, EventSink, Stamped};
pub use exit_gate::ExitGate;
pub use lifecycle::{Denied, Kind, Lifecycle, Op, Seen, Status};
pub use process::ProcessState;
pub use sandbox::Sandbox;
pub use settings::{CommandPath, ExecPath, Settings};
pub use task::ExecRequest;
pub use wedge_setns::SECCOMP_COMMAND;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a state mutex. Poisoning cannot happen in the shim, where a panic ends the process.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
