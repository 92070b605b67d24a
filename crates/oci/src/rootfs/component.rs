// SPDX-License-Identifier: Apache-2.0
//! One component of a root file system, made with mount(2). Everything here blocks.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component as Part, Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::mount::{MsFlags, mount as mount_call};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{SysconfVar, sysconf};
use wedge_sys::{attach_mount, clone_mount, map_mount_ids};

use crate::error::{Error, Result, on_step};
use crate::rootfs::id_mapped::MappedLowers;
use crate::rootfs::loop_device::LoopDevice;
use crate::rootfs::mount::{Mount, Mounted};
use crate::rootfs::options::MountOptions;
use crate::rootfs::overlay;

/// A component, with what was prepared for it.
#[derive(Debug)]
pub(super) struct Component {
    pub(super) mount: Mount,
    pub(super) rootfs: PathBuf,
    pub(super) options: MountOptions,
    /// Maps its ids.
    pub(super) user_namespace: Option<OwnedFd>,
    /// Its source; open until it is mounted, since it goes with its last user.
    pub(super) device: Option<LoopDevice>,
}

impl Component {
    /// Makes it; a remount gives `None`.
    ///
    /// # Errors
    /// [`Error::Mount`] and the like; nothing is left behind then.
    pub(super) fn mount(self) -> Result<Option<Mounted>> {
        let (is_overlay, is_bind) = (self.mount.fs_type == "overlay", self.options.is_bind());
        // Where the kernel takes ids from is below an overlay, not the overlay itself.
        let below = self.user_namespace.as_ref().filter(|_| is_overlay);
        let itself = self.user_namespace.as_ref().filter(|_| !is_overlay);
        let lowers = below.map(|namespace| MappedLowers::make(&self.options.data, namespace));
        let lowers = lowers.transpose()?;
        let data = lowers.as_ref().map_or(&self.options.data, MappedLowers::options);
        let mounted = match itself {
            _ if self.options.is_pure_remount() => None,
            Some(namespace) if is_bind => Some(self.bind_mapped(namespace)?),
            _ => self.make(data)?,
        };
        if let Some(propagation) = self.options.propagation {
            self.change(propagation)?;
        }
        if self.options.is_read_only_bind() {
            let flags = self.options.flags | self.locked_flags()?;
            self.change(flags | MsFlags::MS_REMOUNT)?;
        }
        match (mounted, itself) {
            (Some(made), Some(namespace)) if !is_bind => self.remake_mapped(made, namespace),
            (mounted, _) => Ok(mounted),
        }
    }

    /// Makes the mount. After a remount, nothing is to be undone.
    fn make(&self, data: &[String]) -> Result<Option<Mounted>> {
        let flags = self.options.flags;
        let device = self.device.as_ref().map(LoopDevice::path);
        let source = device.unwrap_or(Path::new(&self.mount.source));
        let joined = data.join(",");
        let target = self.locate().map_err(|cause| self.failed(flags, &joined, cause))?;
        let path = magic_link(&target);
        let made = fs::read_link(&path).and_then(|point| {
            let fs_type = self.mount.fs_type.as_str();
            if joined.len() < page_size() {
                mount_call(Some(source), &path, Some(fs_type), flags, Some(joined.as_str()))?;
            } else if fs_type == "overlay" {
                overlay::mount(&self.mount.source, &target, flags, data)?;
            } else {
                return Err(io::ErrorKind::ArgumentListTooLong.into());
            }
            Ok((!self.options.is_remount()).then(|| Mounted::at(point)))
        });
        made.map_err(|cause| {
            if cause.kind() == io::ErrorKind::ArgumentListTooLong {
                return Error::MountOptionsTooLong;
            }
            self.failed(flags, &joined, cause)
        })
    }

    /// Changes flags of the mount that is there now.
    fn change(&self, flags: MsFlags) -> Result<()> {
        let changed = self.locate().and_then(|target| {
            let none = None::<&str>;
            Ok(mount_call(none, &magic_link(&target), none, flags, none)?)
        });
        changed.map_err(|cause| self.failed(flags, "", cause))
    }

    /// In a user namespace some flags of the source are locked, and a remount must repeat them
    /// (`CL_UNPRIVILEGED`, fs/namespace.c).
    fn locked_flags(&self) -> Result<MsFlags> {
        if !in_user_namespace() {
            return Ok(MsFlags::empty());
        }
        let stat = self.locate().and_then(|target| Ok(statvfs(&magic_link(&target))?));
        let set = stat.map_err(|cause| self.failed(self.options.flags, "", cause))?.flags();
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

    /// Makes a bind mount with mapped ids. containerd makes the bind mount first, and mounts one
    /// with mapped ids on it; when the source is in a shared mount, that shows up there as well,
    /// for everybody on the host.
    fn bind_mapped(&self, namespace: &OwnedFd) -> Result<Mounted> {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let source = open(self.mount.source.as_str(), flags, Mode::empty());
        let recursive = self.options.flags.contains(MsFlags::MS_REC);
        let tree = source.map_err(io::Error::from).and_then(|fd| clone_mount(fd, recursive));
        let tree = tree.map_err(|cause| self.failed(self.options.flags, "", cause))?;
        self.map_ids(&tree, namespace)?;
        self.attach(&tree)
    }

    /// Replaces the new file system's mount by one with mapped ids: only a mount that is nowhere
    /// yet can get a map.
    fn remake_mapped(&self, made: Mounted, namespace: &OwnedFd) -> Result<Option<Mounted>> {
        let tree = self.locate().and_then(|place| clone_mount(place, false));
        let tree = tree.map_err(self.step("unable to open tree for"))?;
        self.map_ids(&tree, namespace)?;
        made.unmount().map_err(self.step("unable to attach mount tree to"))?;
        self.attach(&tree).map(Some)
    }

    /// Private as containerd makes it, unless the client wants something else.
    fn map_ids(&self, tree: &OwnedFd, namespace: &OwnedFd) -> Result<()> {
        let private = MsFlags::MS_PRIVATE;
        let propagation = self.options.propagation.map_or(private, |_| MsFlags::empty());
        map_mount_ids(tree, namespace, propagation)
            .map_err(self.step("unable to shift GID/UID or set mount attrs for"))
    }

    fn attach(&self, tree: &OwnedFd) -> Result<Mounted> {
        let attached = self.locate().and_then(|place| {
            let point = path_of(&place)?;
            attach_mount(tree, &place)?;
            Ok(Mounted::at(point))
        });
        attached.map_err(self.step("unable to attach mount tree to"))
    }

    fn step(&self, step: &str) -> impl FnOnce(io::Error) -> Error + use<> {
        on_step(format!("{step} {}", self.target().display()))
    }

    fn locate(&self) -> io::Result<OwnedFd> {
        locate(&self.rootfs, &self.mount.target)
    }

    /// Where it should appear, for messages.
    fn target(&self) -> PathBuf {
        let below = Path::new(&self.mount.target).components();
        let below = below.filter(|part| matches!(part, Part::Normal(_)));
        self.rootfs.components().chain(below).collect()
    }

    fn failed(&self, flags: MsFlags, data: &str, cause: io::Error) -> Error {
        let mut mount = Box::new(self.mount.clone());
        if let Some(device) = &self.device {
            mount.source = device.path().display().to_string();
        }
        let (target, flags, data) = (self.target(), flags.bits(), data.to_owned());
        Error::Mount { mount, target, flags, data, cause }
    }
}

/// Opens `target` as seen from `rootfs`, and with it whatever is mounted there by now. The file
/// system itself is not asked for anything.
///
/// # Errors
/// `ENOENT` when there is no such place.
pub(super) fn locate(rootfs: &Path, target: &str) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let root = open(rootfs, flags | OFlag::O_DIRECTORY, Mode::empty())?;
    if target.is_empty() {
        return Ok(root);
    }
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(flags).resolve(resolve);
    Ok(openat2(root, target, how)?)
}

/// A path that leads to exactly what is open.
pub(super) fn magic_link(fd: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

/// Where it is, without asking the file system.
pub(super) fn path_of(fd: impl AsFd) -> io::Result<PathBuf> {
    fs::read_link(magic_link(fd))
}

/// mount(2) copies one page, with a zero at its end, and silently cuts the rest.
pub(super) fn page_size() -> usize {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    page.and_then(|page| usize::try_from(page).ok()).unwrap_or(4096)
}

/// Outside of one, all ids are mapped to themselves (user_namespaces(7)).
fn in_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    !map.split_whitespace().eq(["0", "0", "4294967295"])
}
