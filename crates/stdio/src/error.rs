// SPDX-License-Identifier: Apache-2.0
//! What can go wrong, in the words of containerd's Go shim, cause included: the text goes to
//! containerd's client as it is.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error as ThisError;
use wedge_sys::go_text;

/// Why the streams of a process could not be set up.
#[derive(Debug, ThisError)]
#[expect(clippy::error_impl_error, reason = "named by its crate, like std::io::Error")]
pub enum Error {
    /// The stdout address is not a URI.
    #[error("unable to parse stdout uri: parse {uri:?}: {reason}")]
    Uri {
        /// The address.
        uri: String,
        /// What is wrong with it, as Go's net/url says it.
        reason: String,
    },
    /// The scheme of stdout means nothing to a shim.
    #[error("unknown STDIO scheme {scheme}")]
    UnknownScheme {
        /// The scheme, in lower case.
        scheme: String,
    },
    /// A terminal was asked for without a place for its output.
    #[error("no stdout fifo")]
    NoTerminalOutput,
    /// The stdin fifo is not there, is not a fifo, or cannot be opened.
    #[error("containerd-shim: opening {} failed: {}", path.display(), go_text(source))]
    OpenInput {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An output fifo is not there, is not a fifo, or cannot be opened.
    #[error("containerd-shim: opening w/o fifo {path:?} failed: {}", go_text(source))]
    OpenOutput {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A log file, or a directory on the way to it, could not be made or opened.
    #[error("{call} {}: {}", path.display(), go_text(source))]
    File {
        /// `mkdir` or `open`.
        call: &'static str,
        /// The file's path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A log file was not opened, since the shim ends.
    #[error("failed to open a log file: {cause}")]
    Interrupted {
        /// Why.
        cause: tokio::task::JoinError,
    },
    /// A logging binary is one that somebody else than root may have put there.
    #[error("failed to start binary process: {path:?} is refused: {at:?} {why}")]
    LoggerRefused {
        /// The path that was asked for.
        path: PathBuf,
        /// What on the way is not trusted.
        at: PathBuf,
        /// Why not.
        why: &'static str,
    },
    /// A logging binary could not be started.
    #[error("failed to start binary process: fork/exec {}: {}", path.display(), go_text(source))]
    LoggerStart {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A pipe for a logging binary could not be made.
    #[error("failed to create {stream} pipes: {}", go_text(source))]
    LoggerPipe {
        /// `stdout` or `stderr`.
        stream: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Whether a logging binary is ready could not be read.
    #[error("failed to read from logging binary: {}", go_text(source))]
    LoggerReady {
        /// Why.
        source: io::Error,
    },
    /// A logging binary gave up the ready pipe without a word.
    #[error("logging binary did not call ready (it may have crashed or exited prematurely)")]
    LoggerNotReady,
    /// A logging binary did not become ready, and was killed.
    #[error("failed to read from logging binary: {path:?} was not ready within {limit:?}")]
    LoggerTimeout {
        /// Its path.
        path: PathBuf,
        /// The limit.
        limit: Duration,
    },
    /// A pipe for the process could not be made.
    #[error("failed to create {stream} pipe: {}", go_text(source))]
    Pipe {
        /// `stdin`, `stdout` or `stderr`.
        stream: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A pipe could not be given to the user the process runs as.
    #[error("failed to chown {stream}: {}", go_text(source))]
    Chown {
        /// `stdin`, `stdout` or `stderr`.
        stream: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A stream, or the pty master (`console`), could not be watched for readiness.
    #[error("failed to watch {stream}: {}", go_text(source))]
    Watch {
        /// `stdin`, `stdout`, `stderr` or `console`.
        stream: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// The class of an [`Error`], for those who must answer with a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request makes no sense: a path that is no fifo, a bad URI, a terminal without output, a
    /// logging binary that is not trusted.
    InvalidArgument,
    /// Anything else, a missing fifo too; Go gives it no class either.
    Unknown,
}

impl Error {
    /// The class of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Uri { .. } | Error::NoTerminalOutput | Error::LoggerRefused { .. } => {
                ErrorKind::InvalidArgument
            }
            Error::OpenInput { source, .. } | Error::OpenOutput { source, .. } => {
                if source.kind() == io::ErrorKind::InvalidInput {
                    ErrorKind::InvalidArgument
                } else {
                    ErrorKind::Unknown
                }
            }
            Error::UnknownScheme { .. }
            | Error::File { .. }
            | Error::Interrupted { .. }
            | Error::LoggerStart { .. }
            | Error::LoggerPipe { .. }
            | Error::LoggerReady { .. }
            | Error::LoggerNotReady
            | Error::LoggerTimeout { .. }
            | Error::Pipe { .. }
            | Error::Chown { .. }
            | Error::Watch { .. } => ErrorKind::Unknown,
        }
    }
}
