// SPDX-License-Identifier: Apache-2.0
//! Unmounting a root file system.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::error::{Error, Result, on_path};
use crate::rootfs::mountinfo::mounts_below;

/// How often, and after which pauses, a busy mount is tried again: 2.5 seconds in all, for the
/// whole tree, since what is below keeps the mounts above it busy too.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(50);

/// Unmounts everything at and below `path`, deepest first, however many mounts are on top of each
/// other. A path that is empty, does not exist or has no mounts is fine.
///
/// # Errors
/// [`Error::Unmount`] of the mount at the top, usually because it is still busy after 2.5 seconds;
/// a failure further down is logged and makes the one at the top fail too.
pub async fn unmount_recursive(path: &Path) -> Result<()> {
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    let mounts = mounts_at(path).await?;
    let mut tries = TRIES;
    let mut result = Ok(());
    for target in mounts {
        if let Err(err) = result {
            log::warn!("{err}");
        }
        result = unmount_all(target, MntFlags::empty(), &mut tries).await;
    }
    result
}

/// Like [`unmount_recursive`], but detaches what stays busy, and logs what cannot even be
/// detached: for a container whose shim has died, where nobody is left to try again.
pub async fn unmount_last_resort(path: &Path) {
    let Err(err) = unmount_recursive(path).await else {
        return;
    };
    log::warn!("{err}, detaching it");
    let targets = match mounts_at(path).await {
        Ok(targets) => targets,
        Err(err) => return log::warn!("failed to cleanup rootfs mount: {err}"),
    };
    for target in targets {
        if let Err(err) = unmount_all(target, MntFlags::MNT_DETACH, &mut 0).await {
            log::warn!("failed to cleanup rootfs mount: {err}");
        }
    }
}

async fn mounts_at(path: &Path) -> Result<Vec<PathBuf>> {
    let path = path.to_path_buf();
    blocking(move || match canonical(&path) {
        Ok(root) => mounts_below(&root),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(err) => Err(on_path("lstat", path)(err)),
    })
    .await
}

/// Resolves symbolic links. A dead network or FUSE mount cannot be looked at, but then its parent
/// can, and the mount point itself is a directory.
fn canonical(path: &Path) -> io::Result<PathBuf> {
    let result = path.canonicalize();
    match (&result, path.parent(), path.file_name()) {
        (Err(err), Some(parent), Some(name)) if err.kind() != io::ErrorKind::NotFound => {
            Ok(parent.canonicalize()?.join(name))
        }
        _ => result,
    }
}

/// Unmounts until nothing is mounted at `target`; waiting for a busy mount costs `tries`.
async fn unmount_all(target: PathBuf, flags: MntFlags, tries: &mut u32) -> Result<()> {
    loop {
        match unmount(target.clone(), flags).await {
            Ok(Unmounted::One) => {}
            Ok(Unmounted::NoMount) => return Ok(()),
            Err(Error::Unmount { cause, .. }) if is_busy(&cause) && *tries > 0 => {
                *tries -= 1;
                sleep(PAUSE).await;
            }
            Err(err) => return Err(err),
        }
    }
}

fn is_busy(err: &io::Error) -> bool {
    err.kind() == io::ErrorKind::ResourceBusy
}

/// What one unmount(2) did.
enum Unmounted {
    One,
    NoMount,
}

async fn unmount(target: PathBuf, flags: MntFlags) -> Result<Unmounted> {
    blocking(move || match umount2(&target, flags | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) => Ok(Unmounted::One),
        Err(Errno::EINVAL | Errno::ENOENT) => Ok(Unmounted::NoMount),
        Err(errno) => Err(Error::Unmount { target, cause: errno.into() }),
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    spawn_blocking(work).await.map_err(|cause| Error::Interrupted { cause })?
}
