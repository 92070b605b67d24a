// SPDX-License-Identifier: Apache-2.0
//! Driving an OCI runtime binary (runc, crun, …) on a bundle.
//!
//! [`Bundle`] knows the files of a container, [`Options`] and [`Spec`] what the client wants,
//! [`Runtime`] calls the command line of the runtime, [`ConsoleSocket`] receives a terminal from
//! it, and [`mount_rootfs`] prepares the file system it runs on. Texts that clients match on are
//! those of containerd's Go shim; they are all built by [`Error`].
#![forbid(unsafe_code)]

mod bundle;
mod call;
mod checkpoint;
mod console;
mod error;
mod options;
mod pid;
mod process;
mod rootfs;
mod runtime;
mod runtime_log;
mod spec;
mod temporary;

pub use bundle::Bundle;
pub use call::{ChildIo, find_in_path};
pub use checkpoint::Checkpoint;
pub use console::ConsoleSocket;
pub use error::{Error, ErrorKind, Result};
pub use options::Options;
pub use process::exec_process;
#[doc(hidden)]
pub use rootfs::fuzzing;
pub use rootfs::{Mount, mount_rootfs, unmount_last_resort, unmount_recursive};
pub use runtime::Runtime;
pub use spec::Spec;
