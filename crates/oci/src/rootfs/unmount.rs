// SPDX-License-Identifier: Apache-2.0
//! Unmounting a root file system.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::Mode;
use tokio::time::{sleep, timeout};
use wedge_reaper::Reaper;

use crate::error::{Error, Result, on_path};
use crate::rootfs::component::path_of;
use crate::rootfs::mountinfo::{MountPoint, mounts_below};
use crate::rootfs::{blocking, fuse, is_busy};

/// How often, and after which pauses, a busy mount is tried again: 2.5 seconds in all, for the
/// whole tree, since what is below keeps the mounts above it busy too.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(50);

/// Unmounts everything at and below `path`, deepest first, however many mounts are on top of each
/// other. A path that is empty, does not exist or has no mounts is fine. To be called from the
/// thread that drives the runtime: for FUSE file systems, fusermount is run through `reaper`.
///
/// # Errors
/// [`Error::Unmount`] of the mount at the top, usually because it is still busy after 2.5 seconds;
/// a failure further down is logged and makes the one at the top fail too.
pub async fn unmount_recursive(reaper: &Reaper, path: &Path) -> Result<()> {
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    let mounts = mounts_at(path).await?;
    let mut tries = TRIES;
    let mut result = Ok(());
    for point in mounts {
        if let Err(err) = result {
            log::warn!("{err}");
        }
        if point.is_fuse {
            fuse::unmount(reaper, &point.path).await;
        }
        result = unmount_all(point.path, MntFlags::empty(), &mut tries).await;
    }
    result
}

/// Like [`unmount_recursive`], but detaches what is still there after `patience`, and logs what
/// cannot even be detached: for a container whose shim has died, where nobody is left to try again.
pub async fn unmount_last_resort(reaper: &Reaper, path: &Path, patience: Duration) {
    match timeout(patience, unmount_recursive(reaper, path)).await {
        Ok(Ok(())) => return,
        Ok(Err(err)) => log::warn!("{err}, detaching it"),
        Err(_) => log::warn!("unmounting {} takes too long, detaching it", path.display()),
    }
    let mounts = match mounts_at(path).await {
        Ok(mounts) => mounts,
        Err(err) => return log::warn!("failed to cleanup rootfs mount: {err}"),
    };
    for point in mounts {
        if let Err(err) = unmount_all(point.path, MntFlags::MNT_DETACH, &mut 0).await {
            log::warn!("failed to cleanup rootfs mount: {err}");
        }
    }
}

async fn mounts_at(path: &Path) -> Result<Vec<MountPoint>> {
    let path = path.to_path_buf();
    blocking(move || match canonical(&path) {
        Ok(root) => mounts_below(&root),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(err) => Err(on_path("lstat", path)(err)),
    })
    .await
}

/// Resolves symbolic links without asking a file system that is mounted at `path`: one that is
/// dead may never answer. When even that is too much, its parent can still be looked at, and the
/// mount point itself is a directory.
fn canonical(path: &Path) -> io::Result<PathBuf> {
    let opened = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
    let result = opened.map_err(io::Error::from).and_then(|fd| path_of(&fd));
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
