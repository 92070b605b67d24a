// SPDX-License-Identifier: Apache-2.0
//! What can go wrong at the edge of the shim.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why an invocation of the shim failed. The text is what containerd's own shim prints, where
/// that is known; [`Error::chain`] adds the causes.
#[derive(Debug, Error)]
#[expect(clippy::error_impl_error, reason = "callers say wedge_shim::Error")]
pub enum Error {
    /// The command line is wrong: print the usage, exit with 2.
    #[error("{message}")]
    Usage {
        /// What Go's `flag` package would say.
        message: String,
    },
    /// `-namespace` is missing.
    #[error("shim namespace cannot be empty")]
    NoNamespace,
    /// Standard input could not be read.
    #[error("failed to read stdin")]
    Stdin {
        /// The error of read.
        source: io::Error,
    },
    /// A protobuf message is broken.
    #[error("failed to decode {what}")]
    Decode {
        /// The message.
        what: &'static str,
        /// What protobuf says.
        source: protobuf::Error,
    },
    /// A reply could not be encoded.
    #[error("failed to encode {what}")]
    Encode {
        /// The message.
        what: &'static str,
        /// What protobuf says.
        source: protobuf::Error,
    },
    /// Bootstrap parameters of another shim.
    #[error("bootstrap parameters do not match command-line arguments")]
    ForeignParams,
    /// Runtime options of a type this shim does not know.
    #[error("unsupported runtime options type {type_url:?}")]
    OptionsType {
        /// The type URL of the `Any`.
        type_url: String,
    },
    /// Runtime options that are not UTF-8.
    #[error("runtime options are not UTF-8 text")]
    OptionsText,
    /// Runtime options could not be understood; the text before the cause is Go's.
    #[error("{action}")]
    Options {
        /// What they were wanted for.
        action: &'static str,
        /// Why not.
        source: Box<Error>,
    },
    /// A line of the configuration is wrong.
    #[error("{}:{line}: {problem}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The key, and what is wrong with it.
        problem: String,
    },
    /// A file of the configuration is not root's alone, or no text.
    #[error("{}: the configuration is refused: it {why}", path.display())]
    ConfigRefused {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// `WEDGE_CONFIG` names no file that can be found wherever the shim runs.
    #[error("WEDGE_CONFIG: {} is not an absolute path", path.display())]
    ConfigPath {
        /// The variable's value.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error("failed to {action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The error of the call.
        source: io::Error,
    },
    /// A system call without a path failed.
    #[error("failed to {action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// The error of the call.
        source: io::Error,
    },
    /// The link to the directory of the sockets could not be made.
    #[error("failed to write socket-dir")]
    SocketDir {
        /// The error of the call.
        source: io::Error,
    },
    /// A socket path does not fit `sun_path` of unix(7).
    #[error("{path:?}: unix socket path too long (> {})", crate::socket::PATH_LIMIT)]
    SocketPathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// `ShimCgroup` is no absolute, clean path below the cgroup root.
    #[error("failed to load cgroup {path}: invalid group path")]
    CgroupPath {
        /// The option's value.
        path: String,
    },
    /// `ShimCgroup` does not exist.
    #[error("failed to load cgroup {path}: cgroup deleted")]
    NoCgroup {
        /// The option's value.
        path: String,
    },
    /// The shim could not be moved to `ShimCgroup`.
    #[error("failed to join cgroup {path}")]
    JoinCgroup {
        /// The option's value.
        path: String,
        /// The error of the write.
        source: io::Error,
    },
    /// The OOM score of the shim could not be set.
    #[error("failed to adjust OOM score for shim: {action}")]
    OomScore {
        /// Which half of it failed.
        action: &'static str,
        /// The error of the read or write.
        source: io::Error,
    },
    /// The bundle could not be read.
    #[error("failed to {action}")]
    Oci {
        /// What was tried.
        action: &'static str,
        /// What the bundle's reader says.
        source: wedge_oci::Error,
    },
    /// The OCI runtime's binary is not there.
    #[error("failed to look up the path of {name:?}: exec: {name:?}: {reason}")]
    RuntimeBinary {
        /// Its configured name.
        name: String,
        /// Go's text.
        reason: String,
    },
}

impl Error {
    /// The text followed by its causes, joined as Go joins wrapped errors.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(err) = cause {
            let more = err.to_string();
            // Texts that must be exactly Go's contain their cause already.
            if !text.ends_with(&more) {
                text.push_str(": ");
                text.push_str(&more);
            }
            cause = err.source();
        }
        text
    }
}
