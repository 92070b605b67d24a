// SPDX-License-Identifier: Apache-2.0
//! The unsafe fence: the few system calls that neither std nor nix offers safely, and the words for
//! their errors.
//!
//! Every `unsafe` block of the shim is in this crate, and each proves its own case. Nothing here
//! knows about containers. File descriptors come in as [`std::os::fd::AsFd`] and go out as
//! [`std::os::fd::OwnedFd`]; raw numbers appear only where a number is what was inherited.
#![expect(unsafe_code, reason = "this crate is the fence around unsafe code")]
#![expect(clippy::disallowed_methods, reason = "raw descriptors get their owner here")]

mod ancillary;
mod errno;
mod fd;
mod inherit;
mod limit;
mod loop_device;
mod memory;
mod mount;
mod pidfd;
mod process;
mod pty;
#[cfg(feature = "testing")]
mod seccomp_filter;
mod signals;
mod spawn;
mod tty;
mod user_namespace;
mod wait;
mod watch;

pub use ancillary::{Received, receive, receive_fd};
pub use errno::{go_text, is_passing};
pub use fd::{stderr_to, take_inherited};
pub use inherit::{close_on_exec_from, pass_fd};
pub use limit::{raise_descriptor_limit, set_limit_of};
pub use loop_device::{configure_loop_device, free_loop_device};
pub use memory::release_memory;
pub use mount::{NewFilesystem, PROPAGATION, attach_mount, clone_mount, map_mount_ids};
pub use pidfd::PidFd;
pub use process::{create_core_sched_group, forget_variable, ignore_sigpipe, set_subreaper};
pub use pty::open_pty_peer;
#[cfg(feature = "testing")]
pub use seccomp_filter::seccomp_filter_of;
pub use signals::ignore_termination;
pub use spawn::{prepare_child, prepare_server};
pub use tty::{is_tty, set_window_size};
pub use user_namespace::spawn_in_user_namespace;
pub use wait::{Ended, Reaped, reap_next};
pub use watch::{Polled, poll_now, watch};
