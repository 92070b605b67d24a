// SPDX-License-Identifier: Apache-2.0
//! Why there is no process.

use thiserror::Error;

/// What this crate cannot reproduce exactly.
pub use wedge_runc::Unsupported;

/// What the OCI runtime would say, in its words; they are all of the answer, so no cause is nested.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(clippy::error_impl_error, reason = "callers say wedge_setns::Error")]
pub enum Error {
    /// Before a process was started.
    #[error("OCI runtime exec failed: exec failed: {0}")]
    Refused(String),
    /// While the process was set up.
    #[error("OCI runtime exec failed: exec failed: unable to start container process: {0}")]
    Start(String),
    /// What crun says.
    #[error("OCI runtime exec failed: {0}")]
    Crun(String),
}

impl Error {
    /// Adds what runc adds when the kernel's OOM killer struck in the container meanwhile.
    #[must_use]
    pub fn possibly_oom_killed(self) -> Error {
        const SUFFIX: &str = " (possibly OOM-killed)";
        match self {
            Error::Refused(text) => Error::Refused(text + SUFFIX),
            Error::Start(text) => Error::Start(text + SUFFIX),
            // crun does not look.
            Error::Crun(text) => Error::Crun(text),
        }
    }
}

/// Why there is no process.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Failure {
    /// The OCI runtime may know how. Nothing visible has happened.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The OCI runtime would refuse it, and has the words. Nothing visible has happened.
    #[error(transparent)]
    Refused(Unsupported),
    /// Nobody can: the caller's mistake, a limit, a container that ended.
    #[error(transparent)]
    Failed(#[from] Error),
}
