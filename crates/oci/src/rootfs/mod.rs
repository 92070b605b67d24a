// SPDX-License-Identifier: Apache-2.0
//! The mounts that make a container's root file system.
//!
//! They are made in the shim's own mount namespace, which is containerd's, and blocking calls run
//! on tokio's blocking pool: a network file system may take its time. The semantics are those of
//! containerd's `core/mount`.

mod mount;
mod mountinfo;
mod options;
mod unmount;

pub use mount::{Mount, mount_rootfs};
pub use unmount::{unmount_last_resort, unmount_recursive};
