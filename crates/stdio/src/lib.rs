// SPDX-License-Identifier: Apache-2.0
//! Standard streams of one container process: fifos of the client, a log file or a logging binary;
//! pipes or a pty of the process; and the copies between them.
//!
//! A process passes through three types, each consuming the last: a [`Request`] is what the
//! client asked for, [`Prepared`] has everything open that the OCI runtime needs, and a
//! [`Copier`] moves the bytes until it is closed or dropped. Whatever fails on the way, dropping
//! the value closes every descriptor.
//!
//! What a client may rely on:
//! * Opening a fifo never blocks, whether or not the client has opened its end (containerd
//!   #2551), and a fifo is opened once, never again by its path: dockerd removes it early.
//! * Both ends of each fifo are held open. A client that goes away and comes back, or a
//!   containerd that restarts, loses nothing and breaks nothing; meanwhile the fifo fills and the
//!   process waits. The process sees the end of its stdin once the client asked for it
//!   ([`Copier::close_stdin`]) *and* nobody has the fifo open for writing.
//! * A fifo that cannot be written no longer stops the process: its output is read and dropped
//!   (containerd #12462).
//! * A logging binary that fails no longer reads: the process's next write to it gives SIGPIPE, as
//!   with the Go shim. It is never left behind, however it behaves.
//!
//! Descriptors per running process: without a terminal three for stdin, three each for stdout and
//! stderr; with one four for the streams, and two for the pty. A log file takes one, and one
//! for each stream; a logging binary none, or with a terminal one.
#![forbid(unsafe_code)]

mod copier;
mod copy;
mod error;
mod fifo;
mod file;
#[doc(hidden)]
pub mod fuzzing;
mod logger;
mod pipe;
mod prepared;
mod pty;
mod request;
mod uri;

pub use copier::Copier;
pub use error::{Error, ErrorKind};
pub use logger::{LoggerPolicy, LoggerRules};
pub use prepared::Prepared;
pub use request::{Context, Owner, Request};
