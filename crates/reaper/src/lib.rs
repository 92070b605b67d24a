// SPDX-License-Identifier: Apache-2.0
//! The only code that waits for children (invariant I1), and the one way to start a child.
//!
//! A child is either spawned here, so that its pid is claimed before anything can reap it, or it
//! appears by itself: an OCI runtime forks the container's init and exits, and the kernel gives
//! the orphan to us, the sub-reaper. For those an [`Expectation`] is opened *before* the runtime
//! is started; exits nobody claimed are kept while one is open, so that no exit is lost between
//! spawn and pid known (invariant I2).
//!
//! [`Ledger`] decides, purely; [`Reaper`] acts. [`Reaper::run`] must be driven by one task.
#![forbid(unsafe_code)]

mod command;
mod exit;
mod ledger;
mod reaper;
mod signals;

pub use command::{CommandError, Limits, Output};
pub use exit::{Exit, ExitStatus};
pub use ledger::{Claim, Ledger};
pub use reaper::{Child, ExitWatch, Expectation, Reaper};
pub use signals::Signals;
