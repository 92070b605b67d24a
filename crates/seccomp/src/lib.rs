// SPDX-License-Identifier: Apache-2.0
//! Seccomp profiles of containers as programs for the kernel.
//!
//! [`compile`] makes of the profile that runc keeps in its `state.json` the program runc itself
//! would load into an exec of that container. libseccomp, linked into the binary, does the work, as
//! it does for runc: only the verdicts of the program are promised, not its instructions.
//!
//! libseccomp takes some ten milliseconds and leaves its tables behind, so the shim calls it only in
//! a short-lived process of its own binary ([`compile_stdin`]), once per container, and keeps the
//! [`Program`]. The decision is in `docs/adr/0009-seccomp.md`.
//!
//! Nothing is ever left out: what this crate does not know is an error, and the runtime's own exec
//! has to be used instead.
#![forbid(unsafe_code)]

mod arch;
mod cli;
mod compact;
mod enosys;
mod error;
mod filter;
mod insn;
mod profile;
mod program;

pub use cli::compile_stdin;
pub use error::Error;
pub use filter::compile;
pub use program::{MAX_INSNS, Program};
