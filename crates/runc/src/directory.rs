// SPDX-License-Identifier: Apache-2.0
//! The OCI runtime's directory of one container.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::SystemTime;

use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};
use serde::de::DeserializeOwned;

use crate::dialect::Dialect;
use crate::error::Unsupported;

/// Opened by the init, for writing with runc and for reading with crun; there until the container is
/// started.
const FIFO: &str = "exec.fifo";

/// A state beyond this many bytes is left to the runtime.
const LIMIT: u64 = 16 << 20;

/// The directory, held open for one command: what is done happens in this one, whatever becomes of
/// its name meanwhile.
#[derive(Debug)]
pub(crate) struct Directory {
    fd: OwnedFd,
    identity: Identity,
}

/// What another directory of the same name does not have in common with this one. Most file systems
/// use a number again, so when it was made counts, too, where that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
    made: Option<SystemTime>,
}

impl Directory {
    /// Opens a directory that is ours alone to change, and no link.
    pub(crate) fn open(path: &Path) -> Result<Directory, Unsupported> {
        let unusable = |err: io::Error| {
            Unsupported::of(format_args!("{} cannot be used", path.display()), &err)
        };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = open(path, flags, Mode::empty()).map_err(|err| unusable(err.into()))?;
        let file = File::from(fd);
        let metadata = file.metadata().map_err(unusable)?;
        if metadata.uid() != geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
            return Err(unusable(io::Error::other("others can write to it")));
        }
        let made = metadata.created().ok();
        let identity = Identity { device: metadata.dev(), inode: metadata.ino(), made };
        Ok(Directory { fd: file.into(), identity })
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// Whether the runtime would find a container here.
    pub(crate) fn has_state(&self, dialect: Dialect) -> bool {
        self.kind(dialect.state()) == Some(SFlag::S_IFREG)
    }

    /// Whose container this is.
    pub(crate) fn dialect(&self) -> Option<Dialect> {
        Dialect::ALL.into_iter().find(|dialect| self.has_state(*dialect))
    }

    /// Whether the init waits to be started.
    pub(crate) fn has_fifo(&self) -> bool {
        self.kind(FIFO) == Some(SFlag::S_IFIFO)
    }

    /// Whether `runc start` would have to pass on what the container tells a service manager.
    pub(crate) fn has_notify(&self) -> bool {
        self.kind("notify").is_some()
    }

    fn kind(&self, name: &str) -> Option<SFlag> {
        let stat = fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        Some(SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT)
    }

    /// Reads the state, as far as `T` has it.
    pub(crate) fn state<T: DeserializeOwned>(&self, dialect: Dialect) -> io::Result<T> {
        self.json(dialect.state())
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, name: &str) -> io::Result<T> {
        Ok(serde_json::from_slice(&self.text(name)?)?)
    }

    pub(crate) fn text(&self, name: &str) -> io::Result<Vec<u8>> {
        self.read(name, LIMIT)
    }

    /// The first `limit` bytes of a file.
    pub(crate) fn read(&self, name: &str, limit: u64) -> io::Result<Vec<u8>> {
        // Without O_NONBLOCK a FIFO in its place would be waited for.
        let file = File::from(self.open_file(name, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?);
        let size = file.metadata()?.len().min(limit);
        // One byte more, in which the end is found.
        let mut text = Vec::with_capacity(usize::try_from(size).unwrap_or_default() + 1);
        file.take(limit).read_to_end(&mut text)?;
        Ok(text)
    }

    /// Opens the FIFO for reading, which lets runc's init go on.
    pub(crate) fn open_fifo(&self) -> io::Result<OwnedFd> {
        self.open_file(FIFO, OFlag::O_RDONLY | OFlag::O_NONBLOCK)
    }

    /// Opens the FIFO for writing: a byte lets crun's init go on. Without one that has it open this
    /// is an error.
    pub(crate) fn open_fifo_to_write(&self) -> io::Result<OwnedFd> {
        let fifo = File::from(self.open_file(FIFO, OFlag::O_WRONLY | OFlag::O_NONBLOCK)?);
        match fifo.metadata()?.file_type().is_fifo() {
            true => Ok(fifo.into()),
            false => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn open_file(&self, name: &str, flags: OFlag) -> io::Result<OwnedFd> {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(openat(&self.fd, name, flags, Mode::empty())?)
    }

    /// Removes the FIFO: from now on the container counts as running.
    pub(crate) fn remove_fifo(&self) -> io::Result<()> {
        match unlinkat(&self.fd, FIFO, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(nix::Error::ENOENT) => Ok(()),
            Err(err) => Err(err.into()),
        }
    }
}

/// Reads the `state.json` in runc's directory `dir` of a container, as far as `T` has it.
///
/// # Errors
/// When there is none, it is not ours, or not a `T`.
pub fn read_state<T: DeserializeOwned>(dir: &Path) -> Result<T, Unsupported> {
    let state = Directory::open(dir)?.state(Dialect::Runc);
    state.map_err(|err| {
        let path = dir.join(Dialect::Runc.state());
        Unsupported::of(format_args!("runc's {} cannot be read", path.display()), &err)
    })
}

/// Whose container's directory `dir` is, if it is that of one we know.
///
/// # Errors
/// When it is not ours alone to change.
pub fn find_dialect(dir: &Path) -> Result<Option<Dialect>, Unsupported> {
    Ok(Directory::open(dir)?.dialect())
}

/// Reads a file of at most `limit` bytes in the runtime's directory `dir` of a container; `None` when
/// there is none.
///
/// # Errors
/// When it cannot be read, is longer, or is anybody else's to change.
pub fn read_file(dir: &Path, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Unsupported> {
    let directory = Directory::open(dir)?;
    let unusable = |err: io::Error| Unsupported::of(name, &err);
    let stat = match fstatat(&directory.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(nix::Error::ENOENT) => return Ok(None),
        stat => stat.map_err(|err| unusable(err.into()))?,
    };
    let regular = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG;
    if !regular || stat.st_uid != geteuid().as_raw() || stat.st_mode & 0o022 != 0 {
        return Err(unusable(io::Error::other("others can write to it")));
    }
    // A byte more than is allowed, by which a longer one is known.
    let bytes = directory.read(name, limit + 1).map_err(unusable)?;
    match u64::try_from(bytes.len()).is_ok_and(|length| length <= limit) {
        true => Ok(Some(bytes)),
        false => Err(unusable(io::Error::other("it is too long"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn only_a_directory_of_our_own_is_used() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Directory::open(dir.path()).is_ok());
        let link = dir.path().join("link");
        symlink(dir.path(), &link).unwrap();
        assert!(Directory::open(&link).is_err());
        assert!(Directory::open(&dir.path().join("none")).is_err());
        for (mode, usable) in [(0o711, true), (0o777, false), (0o720, false), (0o701, true)] {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Directory::open(dir.path()).is_ok(), usable, "{mode:o}");
        }
    }

    #[test]
    fn links_and_things_of_another_kind_do_not_count() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(other.path().join(Dialect::Runc.state()), "7").unwrap();
        let opened = Directory::open(dir.path()).unwrap();
        assert!(!opened.has_state(Dialect::Runc) && !opened.has_fifo() && !opened.has_notify());
        symlink(other.path().join(Dialect::Runc.state()), dir.path().join(Dialect::Runc.state()))
            .unwrap();
        fs::write(dir.path().join(FIFO), "").unwrap();
        assert!(!opened.has_state(Dialect::Runc) && !opened.has_fifo());
        assert!(read_state::<u32>(dir.path()).is_err());
        assert_eq!(read_state::<u32>(other.path()), Ok(7));
        fs::remove_file(dir.path().join(Dialect::Runc.state())).unwrap();
        nix::unistd::mkfifo(&dir.path().join(Dialect::Runc.state()), Mode::S_IRUSR).unwrap();
        assert!(read_state::<u32>(dir.path()).is_err(), "nobody is waited for");
        opened.remove_fifo().unwrap();
        opened.remove_fifo().unwrap();
        assert!(!dir.path().join(FIFO).exists());
    }
}
