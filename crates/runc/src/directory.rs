// SPDX-License-Identifier: Apache-2.0
//! runc's directory of one container.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};
use serde::de::DeserializeOwned;

use crate::error::Unsupported;

/// Written by runc when its init is ready.
const STATE: &str = "state.json";

/// Opened for writing by the init, which waits for a reader; there until the container is started.
const FIFO: &str = "exec.fifo";

/// A state beyond this many bytes is left to runc.
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
        let unusable = |err: &dyn std::fmt::Display| {
            Unsupported::new(format!("runc's {} cannot be used: {err}", path.display()))
        };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = open(path, flags, Mode::empty()).map_err(|err| unusable(&err))?;
        let file = File::from(fd);
        let metadata = file.metadata().map_err(|err| unusable(&err))?;
        if metadata.uid() != geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
            return Err(unusable(&"others can write to it"));
        }
        let made = metadata.created().ok();
        let identity = Identity { device: metadata.dev(), inode: metadata.ino(), made };
        Ok(Directory { fd: file.into(), identity })
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// Whether runc would find a container here.
    pub(crate) fn has_state(&self) -> bool {
        self.kind(STATE) == Some(SFlag::S_IFREG)
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
    pub(crate) fn state<T: DeserializeOwned>(&self) -> io::Result<T> {
        // Without O_NONBLOCK a FIFO in its place would be waited for.
        let file = File::from(self.open_file(STATE, OFlag::O_NONBLOCK)?);
        let size = file.metadata()?.len().min(LIMIT);
        // One byte more, in which the end is found.
        let mut text = Vec::with_capacity(usize::try_from(size).unwrap_or_default() + 1);
        file.take(LIMIT).read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// Opens the FIFO for reading, which lets the init go on.
    pub(crate) fn open_fifo(&self) -> io::Result<OwnedFd> {
        self.open_file(FIFO, OFlag::O_NONBLOCK)
    }

    fn open_file(&self, name: &str, flags: OFlag) -> io::Result<OwnedFd> {
        let flags = flags | OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
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
    let state = Directory::open(dir)?.state();
    state.map_err(|err| {
        Unsupported::new(format!("runc's {} cannot be read: {err}", dir.join(STATE).display()))
    })
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
        fs::write(other.path().join(STATE), "7").unwrap();
        let opened = Directory::open(dir.path()).unwrap();
        assert!(!opened.has_state() && !opened.has_fifo() && !opened.has_notify());
        symlink(other.path().join(STATE), dir.path().join(STATE)).unwrap();
        fs::write(dir.path().join(FIFO), "").unwrap();
        assert!(!opened.has_state() && !opened.has_fifo());
        assert!(read_state::<u32>(dir.path()).is_err());
        assert_eq!(read_state::<u32>(other.path()), Ok(7));
        fs::remove_file(dir.path().join(STATE)).unwrap();
        nix::unistd::mkfifo(&dir.path().join(STATE), Mode::S_IRUSR).unwrap();
        assert!(read_state::<u32>(dir.path()).is_err(), "nobody is waited for");
        opened.remove_fifo().unwrap();
        opened.remove_fifo().unwrap();
        assert!(!dir.path().join(FIFO).exists());
    }
}
