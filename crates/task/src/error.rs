// SPDX-License-Identifier: Apache-2.0
//! What can go wrong, in the words containerd's clients match on.
//!
//! Texts are those of containerd's Go shim: docker, CRI and containerd's own tests compare them.
//! An error with a class ends with the text of that class ("…: not found").

use std::io;

use thiserror::Error as ThisError;
use wedge_oci::ErrorKind as OciKind;
use wedge_stdio::ErrorKind as StdioKind;
use wedge_sys::go_text;

use crate::lifecycle::Denied;

/// The classes of error containerd understands (errdefs).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after the gRPC codes")]
pub enum Code {
    InvalidArgument,
    NotFound,
    AlreadyExists,
    FailedPrecondition,
    Unavailable,
    Unknown,
}

/// What went wrong.
#[derive(Debug, ThisError)]
#[expect(clippy::error_impl_error, reason = "callers say wedge_task::Error")]
pub enum Error {
    /// An argument that makes no sense, for instance an id that could not be a file name.
    #[error("{0}: invalid argument")]
    InvalidArgument(String),
    /// No container of that id.
    #[error("container not created: not found")]
    NoContainer,
    /// No exec of that id.
    #[error("process does not exist {exec_id}: not found")]
    NoProcess {
        /// The id asked for.
        exec_id: String,
    },
    /// The id is taken.
    #[error("id {id}: already exists")]
    Exists {
        /// The id asked for.
        id: String,
    },
    /// The state does not allow it: class NotFound.
    #[error("{0}: not found")]
    Gone(String),
    /// The state does not allow it: class FailedPrecondition.
    #[error("{0}: failed precondition")]
    Precondition(String),
    /// The state does not allow it, and containerd gives this no class.
    #[error("{0}")]
    State(String),
    /// An exec was to start after init had ended.
    #[error("container {id} init process is not running: failed precondition")]
    InitEnded {
        /// The container.
        id: String,
    },
    /// The shim is on its way out.
    #[error("shim is shutting down: unavailable")]
    ShuttingDown,
    /// The OCI runtime, the bundle, the rootfs or the console failed. Has Go's text already.
    #[error(transparent)]
    Oci(#[from] wedge_oci::Error),
    /// A command failed without the OCI runtime. Has Go's text already.
    #[error(transparent)]
    Command(#[from] wedge_runc::Error),
    /// An exec failed without the OCI runtime. Has its text already.
    #[error(transparent)]
    Exec(#[from] wedge_setns::Error),
    /// An exec is not possible without the OCI runtime, and the operator wants none with it.
    #[error("OCI runtime exec failed: exec = \"native\" is configured, but {reason}")]
    NotNative {
        /// Why.
        reason: wedge_setns::Unsupported,
    },
    /// The streams could not be set up or connected.
    #[error("{step}: {source}")]
    Stdio {
        /// Which step, in containerd's words.
        step: &'static str,
        /// Why.
        source: wedge_stdio::Error,
    },
    /// There is no socket over which the OCI runtime could send a terminal.
    #[error("{step}: {source}")]
    ConsoleSocket {
        /// Which step, in containerd's words.
        step: &'static str,
        /// Why.
        source: wedge_oci::Error,
    },
    /// The process the OCI runtime reported is not there.
    #[error("failed to watch process {pid}: {}", go_text(source))]
    Watch {
        /// Its pid.
        pid: u32,
        /// Why.
        source: io::Error,
    },
    /// An exec could not be signalled.
    #[error("exec kill error: unknown error after kill: {}", go_text(source))]
    Signal {
        /// Why.
        source: io::Error,
    },
    /// The rootfs could not be unmounted.
    #[error("failed rootfs umount: {source}")]
    Unmount {
        /// Why.
        source: wedge_oci::Error,
    },
    /// The terminal's size could not be set.
    #[error("failed to resize the terminal: {}", go_text(source))]
    Resize {
        /// Why.
        source: io::Error,
    },
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The class to tell containerd.
    pub fn code(&self) -> Code {
        match self {
            Error::InvalidArgument(_) => Code::InvalidArgument,
            Error::NoContainer | Error::NoProcess { .. } | Error::Gone(_) => Code::NotFound,
            Error::Exists { .. } => Code::AlreadyExists,
            Error::Precondition(_) | Error::InitEnded { .. } => Code::FailedPrecondition,
            Error::ShuttingDown => Code::Unavailable,
            Error::Oci(source) => match source.kind() {
                OciKind::NotFound => Code::NotFound,
                OciKind::InvalidArgument => Code::InvalidArgument,
                OciKind::Unknown => Code::Unknown,
            },
            Error::Stdio { source, .. } => match source.kind() {
                StdioKind::InvalidArgument => Code::InvalidArgument,
                StdioKind::Unknown => Code::Unknown,
            },
            Error::Command(wedge_runc::Error::NotRunning) => Code::NotFound,
            Error::NotNative { .. } => Code::FailedPrecondition,
            Error::State(_)
            | Error::Command(_)
            | Error::Exec(_)
            | Error::ConsoleSocket { .. }
            | Error::Watch { .. }
            | Error::Signal { .. }
            | Error::Unmount { .. }
            | Error::Resize { .. } => Code::Unknown,
        }
    }
}

impl From<Denied> for Error {
    fn from(denied: Denied) -> Error {
        match denied {
            Denied::NotFound(text) => Error::Gone(text),
            Denied::Precondition(text) => Error::Precondition(text),
            Denied::State(text) => Error::State(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Go wraps these errors of the kernel, so that its errdefs finds no class in them.
    #[test]
    fn an_errno_has_no_class_and_the_words_of_go() {
        let errno = io::Error::from_raw_os_error;
        let kill = Error::Signal { source: errno(libc::EPERM) };
        let text = "exec kill error: unknown error after kill: operation not permitted";
        assert_eq!((kill.to_string().as_str(), kill.code()), (text, Code::Unknown));
        let source =
            wedge_stdio::Error::OpenOutput { path: "/f".into(), source: errno(libc::ENOENT) };
        let step = "failed to create init process I/O";
        let stdio = Error::Stdio { step, source };
        let text = "failed to create init process I/O: containerd-shim: opening w/o fifo \"/f\" \
                    failed: no such file or directory";
        assert_eq!((stdio.to_string().as_str(), stdio.code()), (text, Code::Unknown));
    }
}
