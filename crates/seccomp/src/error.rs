// SPDX-License-Identifier: Apache-2.0
//! Why there is no program.

use std::io;

use libseccomp::error::SeccompError;
use thiserror::Error as ThisError;

/// What went wrong. No variant leaves a partial program behind.
#[derive(Debug, ThisError)]
#[expect(clippy::error_impl_error, reason = "callers say wedge_seccomp::Error")]
pub enum Error {
    /// The profile asks for something that only the runtime can do, or that is unknown here.
    #[error("seccomp {what} {value:?} is not supported")]
    Unsupported {
        /// The kind of thing, for instance "action".
        what: &'static str,
        /// As the profile has it.
        value: String,
    },
    /// The profile is JSON, but not of the form known here: perhaps that of another runc.
    #[error("unknown form of seccomp profile")]
    Form(#[source] serde_json::Error),
    /// The profile is not JSON.
    #[error("cannot parse the seccomp profile")]
    Json(#[source] serde_json::Error),
    /// The profile is longer than is read.
    #[error("seccomp profile of more than {limit} bytes")]
    ProfileTooLong {
        /// The limit, in bytes.
        limit: u64,
    },
    /// libseccomp refused a rule.
    #[error("cannot add the seccomp rule for {syscall}")]
    Rule {
        /// The name of the system call.
        syscall: String,
        /// libseccomp's reason.
        source: SeccompError,
    },
    /// libseccomp refused something else.
    #[error("cannot {operation} the seccomp filter")]
    Filter {
        /// What was asked of it.
        operation: &'static str,
        /// libseccomp's reason.
        source: SeccompError,
    },
    /// A program could not be passed on.
    #[error("cannot {operation}")]
    Io {
        /// The step that failed.
        operation: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The program is longer than the kernel takes.
    #[error("seccomp program of {insns} instructions")]
    TooLong {
        /// Its length.
        insns: usize,
    },
    /// Bytes that are no program.
    #[error("malformed seccomp program: {0}")]
    Malformed(&'static str),
}

impl Error {
    pub(crate) fn unsupported(what: &'static str, value: &(impl ToString + ?Sized)) -> Self {
        Self::Unsupported { what, value: value.to_string() }
    }
}
