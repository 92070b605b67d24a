// SPDX-License-Identifier: Apache-2.0
//! containerd's shim ABI: the command line, the socket, the task service and the events, around
//! the domain in `wedge-task`. Protobuf and ttrpc stop here.
//!
//! ```text
//! containerd ──start──▶ start ──spawns──▶ serve ─▶ server ─▶ service ─▶ wedge-task
//!                         │                 │                  (convert, status)
//!                         └─▶ socket ◀──────┘─▶ publisher ─▶ containerd's events
//! ```
//! `delete` and `-info` are short-lived modes of the same binary.
#![forbid(unsafe_code)]

mod args;
mod bootstrap;
mod config;
mod confine;
mod convert;
mod debug;
mod delete;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod info;
mod logger;
mod memory;
mod options;
mod publisher;
mod serve;
mod server;
mod service;
mod socket;
mod start;
mod status;
mod wire;

pub use args::{Flags, Invocation, Program, parse};
pub use delete::delete;
pub use error::Error;
pub use info::info;
pub use serve::serve;
pub use start::start;
pub use wedge_seccomp::compile_stdin as compile_seccomp;
