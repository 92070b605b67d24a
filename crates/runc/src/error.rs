// SPDX-License-Identifier: Apache-2.0
//! Why a command was not carried out.

use std::fmt::Display;
use std::io;

use thiserror::Error as ThisError;
use wedge_sys::is_passing;

/// What is left to the OCI runtime.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
#[error("{reason}")]
pub struct Unsupported {
    reason: String,
    passing: bool,
}

impl Unsupported {
    /// With a text that fits "because …".
    pub fn new(reason: impl Into<String>) -> Unsupported {
        Unsupported { reason: reason.into(), passing: false }
    }

    /// Because a call on `what` has failed.
    pub fn of(what: impl Display, err: &io::Error) -> Unsupported {
        Unsupported { reason: format!("{what}: {err}"), passing: is_passing(err) }
    }

    /// With a text that fits "because …", of something that may be otherwise the next time.
    pub fn for_now(reason: impl Into<String>) -> Unsupported {
        Unsupported { reason: reason.into(), passing: true }
    }

    /// Whether this may be otherwise the next time, though nobody has changed the container: there
    /// were not enough descriptors, processes or memory.
    pub fn is_passing(&self) -> bool {
        self.passing
    }
}

/// What containerd's shim makes of what runc would say, complete in itself: clients match on it.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
#[expect(clippy::error_impl_error, reason = "callers say wedge_runc::Error")]
pub enum Error {
    /// Not started.
    #[error("OCI runtime start failed: {0}")]
    Start(String),
    /// Not frozen.
    #[error("OCI runtime pause failed: {0}")]
    Pause(String),
    /// Not thawed.
    #[error("OCI runtime resume failed: {0}")]
    Resume(String),
    /// There is nobody to signal.
    #[error("process already finished: not found")]
    NotRunning,
    /// Not signalled, for another reason.
    #[error("unknown error after kill: {0}")]
    Kill(String),
    /// The processes cannot be listed.
    #[error("unable to get all container pids: {0}")]
    Pids(String),
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
pub enum Failure {
    /// The runtime may know how. Nothing has happened that it could not find.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// Nor could the runtime.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// An error with its causes, as a text.
pub(crate) fn chain(err: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(err.source(), |cause| cause.source());
    causes.fold(err.to_string(), |text, cause| format!("{text}: {cause}"))
}
