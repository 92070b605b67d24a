// SPDX-License-Identifier: Apache-2.0
//! Mounting a root file system, component by component.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::mount::{MntFlags, MsFlags, mount as mount_call, umount2};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, statvfs};
use tokio::task::spawn_blocking;

use crate::error::{Error, Result, on_path};
use crate::rootfs::options::MountOptions;

/// One mount of a root file system, `containerd.types.Mount`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mount {
    /// The file system type.
    pub fs_type: String,
    /// The device, or the directory of a bind mount.
    pub source: String,
    /// The mount point inside the root file system; empty: its root.
    pub target: String,
    /// Options as in fstab.
    pub options: Vec<String>,
}

/// Makes `mounts` at `rootfs`, in order, and the directory itself when it is missing. Without
/// mounts nothing is touched.
///
/// Targets are resolved below `rootfs`: a symbolic link in an image leads nowhere else. A future
/// that is dropped leaves the mounts to be made in the background.
///
/// # Errors
/// "failed to mount rootfs component: …"; whatever was mounted is unmounted again.
pub async fn mount_rootfs(mounts: &[Mount], rootfs: &Path) -> Result<()> {
    if mounts.is_empty() {
        return Ok(());
    }
    let (mounts, rootfs) = (mounts.to_vec(), rootfs.to_path_buf());
    let work = spawn_blocking(move || mount_all(&mounts, &rootfs)).await;
    work.map_err(|cause| Error::Interrupted { cause })?
}

fn mount_all(mounts: &[Mount], rootfs: &Path) -> Result<()> {
    make_dir(rootfs)?;
    let mut undo = Undo(Vec::new());
    for mount in mounts {
        mount_one(mount, rootfs, &mut undo)?;
    }
    undo.0.clear();
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

fn mount_one(mount: &Mount, rootfs: &Path, undo: &mut Undo) -> Result<()> {
    if mount.fs_type.starts_with("fuse.") || mount.fs_type.starts_with("fuse3.") {
        let what = format!("file system type {:?}", mount.fs_type);
        return Err(Error::UnsupportedMount { what });
    }
    let options = MountOptions::parse(&mount.fs_type, &mount.options)?;
    let call = MountCall { mount, rootfs, data: &options.data };
    if !options.is_pure_remount() {
        let point = call.mount(options.flags)?;
        if !options.is_remount() {
            undo.0.push(point);
        }
    }
    if let Some(propagation) = options.propagation {
        call.change(propagation)?;
    }
    if options.is_read_only_bind() {
        let locked = call.locked_flags(options.flags)?;
        call.change(options.flags | locked | MsFlags::MS_REMOUNT)?;
    }
    Ok(())
}

/// The mount being made.
struct MountCall<'a> {
    mount: &'a Mount,
    rootfs: &'a Path,
    data: &'a str,
}

impl MountCall<'_> {
    /// Makes the mount and returns the path it is at.
    fn mount(&self, flags: MsFlags) -> Result<PathBuf> {
        let made = self.locate().and_then(|target| {
            let path = magic_link(&target);
            let point = fs::read_link(&path)?;
            let (source, fs_type) = (self.mount.source.as_str(), self.mount.fs_type.as_str());
            mount_call(Some(source), &path, Some(fs_type), flags, Some(self.data))?;
            Ok(point)
        });
        made.map_err(|cause| self.failed(flags, cause))
    }

    /// Changes flags of the mount that is there now.
    fn change(&self, flags: MsFlags) -> Result<()> {
        let changed = self.locate().and_then(|target| {
            let none = None::<&str>;
            Ok(mount_call(none, &magic_link(&target), none, flags, none)?)
        });
        changed.map_err(|cause| self.failed(flags, cause))
    }

    /// In a user namespace some flags of the source are locked, and a remount must repeat them
    /// (`CL_UNPRIVILEGED`, fs/namespace.c).
    fn locked_flags(&self, flags: MsFlags) -> Result<MsFlags> {
        if !in_user_namespace() {
            return Ok(MsFlags::empty());
        }
        let stat = self.locate().and_then(|target| Ok(statvfs(&magic_link(&target))?));
        let set = stat.map_err(|cause| self.failed(flags, cause))?.flags();
        let pairs = [
            (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
            (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
            (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
            (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
            (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
            (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
            (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        ];
        Ok(pairs
            .into_iter()
            .filter(|(stat, _)| set.contains(*stat))
            .map(|(_, flag)| flag)
            .collect())
    }

    /// Opens the target, and with it whatever is mounted there by now.
    fn locate(&self) -> io::Result<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let root = open(self.rootfs, flags | OFlag::O_DIRECTORY, Mode::empty())?;
        if self.mount.target.is_empty() {
            return Ok(root);
        }
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(flags).resolve(resolve);
        Ok(openat2(root, self.mount.target.as_str(), how)?)
    }

    fn failed(&self, flags: MsFlags, cause: io::Error) -> Error {
        let below = Path::new(&self.mount.target).components();
        let below = below.filter(|part| matches!(part, Component::Normal(_)));
        Error::Mount {
            mount: Box::new(self.mount.clone()),
            target: self.rootfs.components().chain(below).collect(),
            flags: flags.bits(),
            data: self.data.to_owned(),
            cause,
        }
    }
}

/// A path that leads to exactly what is open.
fn magic_link(fd: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

/// Outside of one, all ids are mapped to themselves (user_namespaces(7)).
fn in_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    !map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// What was mounted, to be unmounted in reverse when this is dropped.
struct Undo(Vec<PathBuf>);

impl Drop for Undo {
    fn drop(&mut self) {
        for point in self.0.iter().rev() {
            // Detached: nobody can have got used to it, and it must go whatever is busy.
            let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
            if let Err(err) = umount2(point, flags) {
                log::warn!("failed to cleanup rootfs mount {}: {err}", point.display());
            }
        }
    }
}
