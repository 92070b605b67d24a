// SPDX-License-Identifier: Apache-2.0
//! Every way this crate fails, in the words of containerd's Go shim.
//!
//! Docker, CRI and ctr match on these texts, so each is complete in itself: causes are part of
//! the text, in Go's spelling, and [`std::error::Error::source`] is always `None`. Joining the
//! chain therefore repeats nothing.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;
use wedge_sys::go_text;

use crate::rootfs::Mount;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong; the text is exactly what the client gets.
#[derive(Debug, Error)]
#[expect(clippy::error_impl_error, reason = "callers say wedge_oci::Error")]
pub enum Error {
    /// A command of the runtime failed. `message` is the last error of its log, or what it printed.
    #[error("{operation}: {message}")]
    Runtime {
        /// Which one, for instance "OCI runtime create failed".
        operation: &'static str,
        /// The runtime's own words.
        message: String,
        /// A signal ended it, ours when it took too long, so nobody knows how far it got.
        cut_short: bool,
    },
    /// The process to be killed has ended.
    #[error("process already finished: not found")]
    NotRunning,
    /// The runtime does not know the container (containerd #4214).
    #[error("no such container: not found")]
    NoSuchContainer,
    /// The runtime could not kill, for another reason.
    #[error("unknown error after kill: {message}")]
    Kill {
        /// Exit status and output of the runtime.
        message: String,
    },
    /// The runtime could not list the processes.
    #[error("{message}")]
    Pids {
        /// Exit status and output of the runtime.
        message: String,
    },
    /// The runtime could not change the limits.
    #[error("{message}")]
    Update {
        /// Exit status and output of the runtime.
        message: String,
    },
    /// The container could not be saved.
    #[error("{message} path= {}", log.display())]
    Checkpoint {
        /// The first line of the runtime's own words.
        message: String,
        /// The copy of CRIU's log.
        log: PathBuf,
    },
    /// The runtime left no usable pid file.
    #[error("failed to retrieve OCI runtime {process} pid: {cause}")]
    Pid {
        /// "container" or "exec".
        process: &'static str,
        /// Why the file could not be read.
        cause: Box<Error>,
    },
    /// A pid file holds something else.
    #[error("strconv.Atoi: parsing {text:?}: invalid syntax")]
    Number {
        /// What it holds.
        text: String,
    },
    /// A system call on a path failed.
    #[error("{operation} {}: {}", path.display(), go_text(cause))]
    Path {
        /// The call as Go names it: open, write, rename, …
        operation: &'static str,
        /// What it was called on.
        path: PathBuf,
        /// The errno.
        cause: io::Error,
    },
    /// A file is unreasonably large.
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// A file is not the JSON it should be.
    #[error("failed to parse {}: {cause}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        cause: serde_json::Error,
    },
    /// The process of an exec is not a JSON object.
    #[error("failed to parse the process spec: {cause}")]
    Process {
        /// Where and why.
        cause: serde_json::Error,
    },
    /// The resources of an update are not a JSON object.
    #[error("failed to parse the resources: {cause}")]
    Resources {
        /// Where and why.
        cause: serde_json::Error,
    },
    /// The runtime options of a client are not TOML.
    #[error("failed to parse runtime options: {}", cause.message())]
    Toml {
        /// Where and why.
        cause: Box<toml::de::Error>,
    },
    /// A runtime option has a value of the wrong type.
    #[error("runtime option {key} must be {expected}")]
    Option {
        /// The key as the client wrote it.
        key: String,
        /// The type it must have.
        expected: &'static str,
    },
    /// A component of the rootfs could not be mounted.
    #[error(
        "failed to mount rootfs component: mount source: {:?}, target: {target:?}, fstype: {}, \
         flags: {flags}, data: {data:?}, err: {}",
        mount.source, mount.fs_type, go_text(cause)
    )]
    Mount {
        /// What was asked for.
        mount: Box<Mount>,
        /// Where it should have appeared.
        target: PathBuf,
        /// The flags of mount(2).
        flags: u64,
        /// The file system's own options.
        data: String,
        /// The errno.
        cause: io::Error,
    },
    /// An option that containerd's mount manager should have handled.
    #[error(
        "failed to mount rootfs component: internal mount option {option:?} was not consumed by \
         the mount manager"
    )]
    InternalMountOption {
        /// The option.
        option: String,
    },
    /// More options than mount(2) takes.
    #[error("failed to mount rootfs component: mount options is too long")]
    MountOptionsTooLong,
    /// A step before or after the mount itself failed.
    #[error("failed to mount rootfs component: {step}: {}", go_text(cause))]
    MountStep {
        /// Which one, and on what.
        step: String,
        /// The errno.
        cause: io::Error,
    },
    /// The map of a mount's ids makes no sense.
    #[error("failed to mount rootfs component: {problem}")]
    IdMap {
        /// What is wrong.
        problem: String,
    },
    /// Every loop device that was free was taken by somebody else.
    #[error("failed to mount rootfs component: timeout creating new loopback device")]
    NoLoopDevice,
    /// The helper that mounts a FUSE file system failed.
    #[error("failed to mount rootfs component: mount helper {command} failed: {output:?}: {cause}")]
    MountHelper {
        /// Its name and arguments.
        command: String,
        /// What it printed.
        output: String,
        /// How it ended.
        cause: String,
    },
    /// A mount of the rootfs stayed.
    #[error("failed to unmount target {}: {}", target.display(), go_text(cause))]
    Unmount {
        /// The mount point.
        target: PathBuf,
        /// The errno, usually EBUSY.
        cause: io::Error,
    },
    /// The runtime sent no terminal.
    #[error("failed to retrieve console master: {}", go_text(cause))]
    Console {
        /// Why not.
        cause: io::Error,
    },
    /// The runtime sent no terminal in time.
    #[error("failed to retrieve console master: nothing received within {limit:?}")]
    ConsoleTimeout {
        /// The limit.
        limit: Duration,
    },
    /// A blocking operation was cut short because the shim is going down.
    #[error("interrupted: {cause}")]
    Interrupted {
        /// Tokio's reason.
        cause: tokio::task::JoinError,
    },
}

/// The classes a client can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The process or container is gone.
    NotFound,
    /// The client asked for nonsense.
    InvalidArgument,
    /// Everything else.
    Unknown,
}

impl Error {
    /// The class of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::NotRunning | Error::NoSuchContainer => ErrorKind::NotFound,
            Error::Process { .. }
            | Error::Resources { .. }
            | Error::Toml { .. }
            | Error::Option { .. } => ErrorKind::InvalidArgument,
            Error::Runtime { .. }
            | Error::Kill { .. }
            | Error::Pids { .. }
            | Error::Update { .. }
            | Error::Checkpoint { .. }
            | Error::Pid { .. }
            | Error::Number { .. }
            | Error::Path { .. }
            | Error::TooLarge { .. }
            | Error::Json { .. }
            | Error::Mount { .. }
            | Error::InternalMountOption { .. }
            | Error::MountOptionsTooLong
            | Error::MountStep { .. }
            | Error::IdMap { .. }
            | Error::NoLoopDevice
            | Error::MountHelper { .. }
            | Error::Unmount { .. }
            | Error::Console { .. }
            | Error::ConsoleTimeout { .. }
            | Error::Interrupted { .. } => ErrorKind::Unknown,
        }
    }

    /// Whether a signal ended the runtime: it may have done what it was asked.
    pub fn is_cut_short(&self) -> bool {
        matches!(self, Error::Runtime { cut_short: true, .. })
    }

    /// What a failed `kill` of container `id` means, from everything the runtime said
    /// (`checkKillError` of containerd's `process/utils.go`).
    pub(crate) fn after_kill(said: &Said, id: &str) -> Error {
        if said.matches(not_running) {
            Error::NotRunning
        } else if said.matches(|text| no_such_container(text, id)) {
            Error::NoSuchContainer
        } else {
            Error::Kill { message: said.raw() }
        }
    }
}

/// Makes [`Error::Path`], for `map_err`.
pub(crate) fn on_path(
    operation: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(io::Error) -> Error {
    let path = path.into();
    move |cause| Error::Path { operation, path, cause }
}

/// Makes [`Error::MountStep`], for `map_err`.
pub(crate) fn on_step(step: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let step = step.into();
    move |cause| Error::MountStep { step, cause }
}

/// Everything a failed command of the runtime said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// How it ended, without its output: "runc did not terminate successfully: exit status 1".
    pub(crate) ended: String,
    /// What it printed, trimmed; empty when the streams were not ours.
    pub(crate) printed: String,
    /// What its log says.
    pub(crate) logged: Logged,
    /// A signal ended it.
    pub(crate) cut_short: bool,
}

/// What the log of a failed command says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Logged {
    /// The last error line.
    Message(String),
    /// No error line.
    Nothing,
    /// There is no readable log, for this reason.
    Unreadable(String),
}

impl Said {
    /// The text without a prefix: how the command ended and what it printed.
    pub(crate) fn raw(&self) -> String {
        let words = match &self.logged {
            Logged::Message(message) if self.printed.is_empty() => message,
            Logged::Message(_) | Logged::Nothing | Logged::Unreadable(_) => &self.printed,
        };
        if words.is_empty() { self.ended.clone() } else { format!("{}: {words}", self.ended) }
    }

    /// The error of an operation that reports the runtime's log (`runtimeError` of containerd's
    /// `process/init.go`).
    pub(crate) fn failed(&self, operation: &'static str) -> Error {
        let message = match &self.logged {
            Logged::Message(message) => message.clone(),
            Logged::Nothing => self.raw(),
            Logged::Unreadable(reason) => {
                format!("unable to retrieve OCI runtime error ({reason}): {}", self.raw())
            }
        };
        Error::Runtime { operation, message, cut_short: self.cut_short }
    }

    /// Whether the runtime said that it does not know container `id`.
    pub(crate) fn is_no_such_container(&self, id: &str) -> bool {
        self.matches(|text| no_such_container(text, id))
    }

    fn matches(&self, test: impl Fn(&str) -> bool) -> bool {
        let logged = match &self.logged {
            Logged::Message(message) => test(message),
            Logged::Nothing | Logged::Unreadable(_) => false,
        };
        logged || test(&self.printed)
    }
}

fn not_running(text: &str) -> bool {
    text.contains("os: process already finished")
        || text.contains("container not running")
        || text.to_lowercase().contains("no such process")
}

/// runc says so; crun fails to open its state directory of the container.
fn no_such_container(text: &str, id: &str) -> bool {
    text.contains("does not exist")
        || text.contains(&format!("/{id}/status`: No such file or directory"))
        || text.contains(&format!("/{id}': No such file or directory"))
}

#[cfg(test)]
mod tests;
