// SPDX-License-Identifier: Apache-2.0
//! Mounts by file descriptor: the mount API of Linux 5.2 (fs/fsopen.c, fs/namespace.c), which
//! neither libc nor nix wraps. A mount made here is detached: it is nowhere in the file system
//! until [`attach_mount`], and goes with its descriptor before that.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::null;

use libc::{c_long, c_uint};
use nix::mount::MsFlags;

/// Paths are empty: a descriptor says it all.
const EMPTY: &std::ffi::CStr = c"";

/// How mounts and unmounts below a mount are passed on, mount_namespaces(7).
pub const PROPAGATION: MsFlags = MsFlags::MS_SHARED
    .union(MsFlags::MS_PRIVATE)
    .union(MsFlags::MS_SLAVE)
    .union(MsFlags::MS_UNBINDABLE);

/// Clones the mount that `place` is on, from `place` downwards, open_tree(2); `recursive`: with
/// what is mounted below.
///
/// # Errors
/// `EINVAL` when `place` is not in this mount namespace or cannot be bind-mounted, `EPERM`.
pub fn clone_mount(place: impl AsFd, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | bits(libc::AT_EMPTY_PATH);
    if recursive {
        flags |= bits(libc::AT_RECURSIVE);
    }
    // SAFETY: the path is an empty C string that lives for the call; the rest are integers.
    let result = unsafe {
        libc::syscall(libc::SYS_open_tree, place.as_fd().as_raw_fd(), EMPTY.as_ptr(), flags)
    };
    descriptor(result)
}

/// Maps the ids of the detached mount `tree`, and of what is mounted below it, through
/// `user_namespace` (mount_setattr(2), Linux 5.12), and sets `flags`: attributes of a mount such
/// as `MS_RDONLY`, and a propagation type.
///
/// # Errors
/// `EINVAL` when a file system does not support it or `flags` are no attributes of a mount,
/// `EPERM` when the ids are mapped already.
pub fn map_mount_ids(tree: impl AsFd, user_namespace: impl AsFd, flags: MsFlags) -> io::Result<()> {
    let attributes = mount_attributes(flags - PROPAGATION)?;
    let userns_fd = user_namespace.as_fd().as_raw_fd();
    let attr = libc::mount_attr {
        attr_set: attributes | libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: (flags & PROPAGATION).bits(),
        userns_fd: u64::try_from(userns_fd).map_err(|_| io::ErrorKind::InvalidInput)?,
    };
    // SAFETY: the path is an empty C string and `attr` a mount_attr of the size given; both live
    // for the call and are only read.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            EMPTY.as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    done(result)
}

/// Mounts the detached mount `tree` on `place`, move_mount(2).
///
/// # Errors
/// `EINVAL` when only one of them is a directory or `place` is not in this mount namespace.
pub fn attach_mount(tree: impl AsFd, place: impl AsFd) -> io::Result<()> {
    // SAFETY: both paths are an empty C string that lives for the call; the rest are integers.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_fd().as_raw_fd(),
            EMPTY.as_ptr(),
            place.as_fd().as_raw_fd(),
            EMPTY.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH,
        )
    };
    done(result)
}

/// A file system that is being configured, fsopen(2).
#[derive(Debug)]
pub struct NewFilesystem(OwnedFd);

impl NewFilesystem {
    /// Begins one of type `fs_type`.
    ///
    /// # Errors
    /// `ENODEV` for a type the kernel does not know, `EPERM`.
    pub fn open(fs_type: &str) -> io::Result<NewFilesystem> {
        let fs_type = CString::new(fs_type)?;
        // SAFETY: `fs_type` is a C string that lives for the call; the flags are an integer.
        let result =
            unsafe { libc::syscall(libc::SYS_fsopen, fs_type.as_ptr(), libc::FSOPEN_CLOEXEC) };
        descriptor(result).map(NewFilesystem)
    }

    /// Sets option `key`, to `value` if it has one.
    ///
    /// # Errors
    /// `EINVAL` for an unknown option or a value of more than 255 bytes, or what the file system
    /// says of the value, `ENOENT` for instance.
    pub fn set(&self, key: &str, value: Option<&str>) -> io::Result<()> {
        let command = match value {
            Some(_) => libc::FSCONFIG_SET_STRING,
            None => libc::FSCONFIG_SET_FLAG,
        };
        let key = CString::new(key)?;
        let value = value.map(CString::new).transpose()?;
        let value = value.as_ref().map_or(null(), |value| value.as_ptr());
        self.configure(command, key.as_ptr(), value)
    }

    /// Makes the file system and a detached mount of it; of `flags` only attributes of a mount
    /// are allowed.
    ///
    /// # Errors
    /// What the file system says of the options together; `EINVAL` for other flags.
    pub fn mount(self, flags: MsFlags) -> io::Result<OwnedFd> {
        let attributes = mount_attributes(flags)?;
        self.configure(libc::FSCONFIG_CMD_CREATE, null(), null())?;
        // SAFETY: fsmount takes three integers.
        let result = unsafe {
            libc::syscall(libc::SYS_fsmount, self.0.as_raw_fd(), libc::FSMOUNT_CLOEXEC, attributes)
        };
        descriptor(result)
    }

    /// Null or C strings that live for the call, as `command` wants them.
    fn configure(
        &self,
        command: c_uint,
        key: *const libc::c_char,
        value: *const libc::c_char,
    ) -> io::Result<()> {
        // SAFETY: the two callers above pass null where fsconfig wants null, and otherwise
        // pointers into C strings of theirs that outlive this call; the kernel only reads them.
        let result = unsafe {
            libc::syscall(libc::SYS_fsconfig, self.0.as_raw_fd(), command, key, value, 0)
        };
        done(result)
    }
}

/// The `MOUNT_ATTR_*` of flags of mount(2).
fn mount_attributes(flags: MsFlags) -> io::Result<u64> {
    let table = [
        (MsFlags::MS_RDONLY, libc::MOUNT_ATTR_RDONLY),
        (MsFlags::MS_NOSUID, libc::MOUNT_ATTR_NOSUID),
        (MsFlags::MS_NODEV, libc::MOUNT_ATTR_NODEV),
        (MsFlags::MS_NOEXEC, libc::MOUNT_ATTR_NOEXEC),
        (MsFlags::MS_NOATIME, libc::MOUNT_ATTR_NOATIME),
        (MsFlags::MS_STRICTATIME, libc::MOUNT_ATTR_STRICTATIME),
        (MsFlags::MS_NODIRATIME, libc::MOUNT_ATTR_NODIRATIME),
        (MsFlags::MS_RELATIME, libc::MOUNT_ATTR_RELATIME),
    ];
    let known: MsFlags = table.iter().map(|(flag, _)| *flag).collect();
    if !known.contains(flags) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let set = table.iter().filter(|(flag, _)| flags.contains(*flag));
    Ok(set.fold(0, |all, (_, attribute)| all | attribute))
}

fn bits(flag: libc::c_int) -> c_uint {
    flag.unsigned_abs()
}

fn done(result: c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// For calls that answer with a new descriptor.
fn descriptor(result: c_long) -> io::Result<OwnedFd> {
    done(result)?;
    let fd = RawFd::try_from(result).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: the callers pass what open_tree, fsopen or fsmount has just answered: a descriptor
    // the kernel installed for us, whose number nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_are_no_attributes_are_refused() {
        let both = MsFlags::MS_RDONLY | MsFlags::MS_NODEV | MsFlags::MS_RELATIME;
        assert_eq!(mount_attributes(both).unwrap(), 5);
        for flag in [MsFlags::MS_BIND, MsFlags::MS_SYNCHRONOUS, MsFlags::MS_REMOUNT] {
            assert!(mount_attributes(both | flag).is_err());
        }
    }

    #[test]
    fn a_detached_mount_is_configured_and_attached_nowhere() {
        let tmpfs = NewFilesystem::open("tmpfs").unwrap();
        tmpfs.set("size", Some("64k")).unwrap();
        assert!(tmpfs.set("no-such-option", None).is_err());
        let mount = tmpfs.mount(MsFlags::MS_NODEV).unwrap();
        let file = std::fs::File::open("/proc/self/status").unwrap();
        assert_eq!(attach_mount(&mount, &file).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert!(NewFilesystem::open("no-such-type").is_err());
    }
}
