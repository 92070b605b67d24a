// SPDX-License-Identifier: Apache-2.0
//! What can go wrong, in the words of containerd's Go shim, cause included: the text goes to
//! containerd's client as it is.

use std::io;
use std::path::PathBuf;

use thiserror::Error as ThisError;

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
        reason: &'static str,
    },
    /// The scheme of stdout means nothing to a shim.
    #[error("unknown STDIO scheme {scheme}")]
    UnknownScheme {
        /// The scheme, in lower case.
        scheme: String,
    },
    /// The scheme is containerd's, but Wedge cannot serve it yet.
    #[error("STDIO scheme {scheme} is not supported yet: not implemented")]
    Unsupported {
        /// The scheme.
        scheme: &'static str,
    },
    /// A terminal was asked for without a place for its output.
    #[error("failed to start console copy: no stdout fifo")]
    NoTerminalOutput,
    /// The stdin fifo is not there, is not a fifo, or cannot be opened.
    #[error("containerd-shim: opening {path:?} failed: {source}")]
    OpenInput {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An output fifo is not there, is not a fifo, or cannot be opened.
    #[error("containerd-shim: opening w/o fifo {path:?} failed: {source}")]
    OpenOutput {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A pipe for the process could not be made.
    #[error("failed to create {stream} pipe: {source}")]
    Pipe {
        /// `stdin`, `stdout` or `stderr`.
        stream: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A pipe could not be given to the user the process runs as.
    #[error("failed to chown {stream}: {source}")]
    Chown {
        /// `stdin`, `stdout` or `stderr`.
        stream: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A stream, or the pty master (`console`), could not be watched for readiness.
    #[error("failed to watch {stream}: {source}")]
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
    /// A fifo is not there.
    NotFound,
    /// The request makes no sense: a path that is no fifo, a bad URI, a terminal without output.
    InvalidArgument,
    /// A kind of stream that Wedge does not have.
    Unimplemented,
    /// Anything else; Go gives it no class either.
    Unknown,
}

impl Error {
    /// The class of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Uri { .. } | Error::NoTerminalOutput => ErrorKind::InvalidArgument,
            Error::Unsupported { .. } => ErrorKind::Unimplemented,
            Error::OpenInput { source, .. } | Error::OpenOutput { source, .. } => {
                if source.kind() == io::ErrorKind::NotFound {
                    ErrorKind::NotFound
                } else if source.kind() == io::ErrorKind::InvalidInput {
                    ErrorKind::InvalidArgument
                } else {
                    ErrorKind::Unknown
                }
            }
            Error::UnknownScheme { .. }
            | Error::Pipe { .. }
            | Error::Chown { .. }
            | Error::Watch { .. } => ErrorKind::Unknown,
        }
    }
}
