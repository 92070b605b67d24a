// SPDX-License-Identifier: Apache-2.0
//! The mounts that make a container's root file system.
//!
//! They are made in the shim's own mount namespace, which is containerd's, and blocking calls run
//! on tokio's blocking pool: a network file system may take its time. Children, on the other hand,
//! start from the runtime's thread only: their parent-death signal follows it. The semantics are
//! those of containerd's `core/mount`.
//!
//! [`mount`] goes through the components of a root file system, [`component`] makes one of them
//! with mount(2). Around that: [`overlay`] when the options are more than that call takes,
//! [`loop_device`] for images, [`id_map`] and [`id_mapped`] for user namespaces, [`fuse`] for
//! helpers. [`unmount`] and [`mountinfo`] take it all away.

mod component;
mod fuse;
pub mod fuzzing;
mod id_map;
mod id_mapped;
mod loop_device;
mod mount;
mod mountinfo;
mod options;
mod overlay;
mod unmount;

pub use mount::{Mount, mount_rootfs};
pub use unmount::{unmount_last_resort, unmount_recursive};

use crate::error::{Error, Result};

fn is_busy(err: &std::io::Error) -> bool {
    err.kind() == std::io::ErrorKind::ResourceBusy
}

/// Runs `work` on the blocking pool. It goes on when the future is dropped.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|cause| Error::Interrupted { cause })?
}

/// Drops `made`, and with it the mounts it stands for, on the blocking pool.
async fn undo<T: Send + 'static>(made: T) {
    if let Err(err) = tokio::task::spawn_blocking(move || drop(made)).await {
        log::warn!("failed to cleanup rootfs mount: {err}");
    }
}
