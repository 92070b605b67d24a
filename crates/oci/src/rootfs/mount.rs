// SPDX-License-Identifier: Apache-2.0
//! Mounting a root file system, component by component.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};
use wedge_reaper::Reaper;

use crate::error::{Result, on_path};
use crate::rootfs::component::Component;
use crate::rootfs::loop_device::LoopDevice;
use crate::rootfs::options::MountOptions;
use crate::rootfs::{blocking, fuse, id_map, undo};

/// One mount of a root file system, `containerd.types.Mount`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mount {
    /// The file system type.
    pub fs_type: String,
    /// The device, or the directory of a bind mount, or the image of a loop mount.
    pub source: String,
    /// The mount point inside the root file system; empty: its root.
    pub target: String,
    /// Options as in fstab, with `loop`, `uidmap=` and `gidmap=`.
    pub options: Vec<String>,
}

/// Makes `mounts` at `rootfs`, in order, and the directory itself when it is missing. Without
/// mounts nothing is touched. To be called from the thread that drives the runtime: mount helpers
/// and the holders of user namespaces start from it, through `reaper`.
///
/// Targets are resolved below `rootfs`: a symbolic link in an image leads nowhere else. When the
/// future is dropped, a call that is under way is completed and then undone in the background.
///
/// # Errors
/// "failed to mount rootfs component: …"; whatever was mounted is unmounted again.
pub async fn mount_rootfs(reaper: &Reaper, mounts: &[Mount], rootfs: &Path) -> Result<()> {
    if mounts.is_empty() {
        return Ok(());
    }
    let dir = rootfs.to_path_buf();
    blocking(move || make_dir(&dir)).await?;
    let mut made = Undo::default();
    for mount in mounts {
        match mount_one(reaper, mount, rootfs).await {
            Ok(mounted) => made.0.extend(mounted),
            Err(err) => {
                undo(made).await;
                return Err(err);
            }
        }
    }
    made.keep();
    Ok(())
}

fn make_dir(rootfs: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o711).create(rootfs) {
        Err(err) if err.kind() != io::ErrorKind::AlreadyExists => {
            Err(on_path("mkdir", rootfs)(err))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A remount makes nothing that could be undone.
async fn mount_one(reaper: &Reaper, mount: &Mount, rootfs: &Path) -> Result<Option<Mounted>> {
    if let Some(helper) = fuse::helper(&mount.fs_type) {
        return fuse::mount(reaper, helper, mount, rootfs).await;
    }
    let options = MountOptions::parse(&mount.options)?;
    let user_namespace = match &options.id_maps {
        Some((users, groups)) => Some(id_map::user_namespace(reaper, users, groups)?),
        None => None,
    };
    let device = match options.image {
        Some(image) => Some(LoopDevice::set_up(Path::new(&mount.source), image).await?),
        None => None,
    };
    let (mount, rootfs) = (mount.clone(), rootfs.to_path_buf());
    let component = Component { mount, rootfs, options, user_namespace, device };
    blocking(move || component.mount()).await
}

/// A mount that goes when this is dropped.
#[derive(Debug)]
pub(super) struct Mounted(Option<PathBuf>);

impl Mounted {
    /// Takes charge of the mount on top at `point`.
    pub(super) fn at(point: PathBuf) -> Mounted {
        Mounted(Some(point))
    }

    fn keep(mut self) {
        self.0 = None;
    }

    /// Unmounts it now.
    pub(super) fn unmount(mut self) -> io::Result<()> {
        self.0.take().map_or(Ok(()), |point| detach(&point))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(point) = self.0.take()
            && let Err(err) = detach(&point)
        {
            log::warn!("failed to cleanup rootfs mount {}: {err}", point.display());
        }
    }
}

/// Nobody can have got used to it, and it must go whatever is busy.
pub(super) fn detach(point: &Path) -> io::Result<()> {
    Ok(umount2(point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?)
}

/// Mounts that go in reverse when this is dropped.
#[derive(Default)]
struct Undo(Vec<Mounted>);

impl Undo {
    fn keep(mut self) {
        self.0.drain(..).for_each(Mounted::keep);
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        while self.0.pop().is_some() {}
    }
}
