// SPDX-License-Identifier: Apache-2.0
//! The shim's socket: its address, taking it, and giving it up.
//!
//! Two `start`s of one pod may run at once, and the socket of a killed shim may be in the way.
//! Who may bind is decided under flock(2) on the directory: the lock vanishes with its holder and
//! leaves no file, and between a look at a socket and its removal nobody can put a live one there.
//! (containerd's own shim removes the socket of a concurrent start that has bound but not yet
//! listened.)

use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use nix::sys::socket::{bind, connect, listen, socket};
use nix::sys::stat::{Mode, fchmod};
use tokio::time::sleep;

use crate::error::Error;

/// The longest path containerd's own shim accepts, in bytes.
pub(crate) const PATH_LIMIT: usize = 106;

/// How often, and after which pauses, a lock that somebody has is tried again.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(2);

/// The socket address of a shim, which containerd's tests compute as well: `group` is the task id
/// or what the grouping annotation says; `dir` is where a daemon since 2.3 wants the socket.
pub(crate) fn address(
    dir: Option<&Path>,
    containerd: &str,
    namespace: &str,
    group: &str,
) -> String {
    address_in(dir, &[containerd, namespace, group])
}

/// The address of the socket on which containerd's own shim, when debugging, offers profiles.
pub(crate) fn debug_address(
    dir: Option<&Path>,
    containerd: &str,
    namespace: &str,
    group: &str,
) -> String {
    address_in(dir, &[containerd, namespace, group, "debug"])
}

fn address_in(dir: Option<&Path>, parts: &[&str]) -> String {
    // It hashes its three parts as one path, which is clean already.
    let address = containerd_shim::socket_address("", "", &join(parts));
    match (dir, address.rsplit_once('/')) {
        (Some(dir), Some((_, hash))) => format!("unix://{}", dir.join(hash).display()),
        (Some(_), None) | (None, _) => address,
    }
}

/// The path in an address: with or without `unix://`.
pub(crate) fn path_of(address: &str) -> &Path {
    Path::new(address.strip_prefix("unix://").unwrap_or(address))
}

/// `filepath.Join` of Go: empty parts do not count, and the result is lexically clean.
fn join(parts: &[&str]) -> String {
    let parts: Vec<&str> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
    let joined = parts.join("/");
    let mut clean = PathBuf::new();
    for component in Path::new(&joined).components() {
        match (component, clean.components().next_back()) {
            (Component::ParentDir, Some(Component::Normal(_))) => {
                clean.pop();
            }
            (Component::ParentDir, Some(Component::RootDir)) | (Component::CurDir, _) => {}
            (other, _) => clean.push(other),
        }
    }
    let clean = clean.to_string_lossy().into_owned();
    if clean.is_empty() && !joined.is_empty() { ".".to_owned() } else { clean }
}

/// What became of an attempt to take a socket.
#[derive(Debug)]
pub(crate) enum Bound {
    /// It is ours and listening.
    Fresh(Socket),
    /// A live shim listens there.
    Live,
}

/// A listening socket, and the file it is bound to.
#[derive(Debug)]
pub(crate) struct Socket {
    listener: UnixListener,
    file: SocketFile,
}

impl Socket {
    /// Takes over a listening socket that was inherited.
    ///
    /// # Errors
    /// When it is not a Unix socket bound to a path.
    pub(crate) fn adopt(fd: OwnedFd) -> io::Result<Socket> {
        let listener = UnixListener::from(fd);
        let address = listener.local_addr()?;
        let path = address.as_pathname().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let file = SocketFile::at(path);
        Ok(Socket { listener, file })
    }

    /// Splits it into the listener and the file, for the one who removes it.
    pub(crate) fn into_parts(self) -> (UnixListener, SocketFile) {
        (self.listener, self.file)
    }
}

/// A socket's file: path and identity.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode. `None` when the file was gone when we looked.
    identity: Option<(u64, u64)>,
}

impl SocketFile {
    fn at(path: &Path) -> SocketFile {
        SocketFile { identity: identity(path), path: path.to_owned() }
    }

    /// Removes the file, unless another shim's has taken its place. Call it while still
    /// listening: nobody replaces a live socket, so the file looked at is the file removed.
    ///
    /// # Errors
    /// The error of unlink(2).
    pub(crate) fn remove(&self) -> Result<(), Error> {
        if self.identity.is_none() || identity(&self.path) != self.identity {
            return Ok(());
        }
        unlink(&self.path)
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let data = std::fs::symlink_metadata(path).ok()?;
    data.file_type().is_socket().then(|| (data.dev(), data.ino()))
}

/// Binds `path` and listens on it, mode 0600 in a directory of mode 0700, replacing what a dead
/// shim left there.
///
/// # Errors
/// When the path is too long, or the directory or the socket cannot be made.
pub(crate) fn take(path: &Path) -> Result<Bound, Error> {
    if path.as_os_str().len() > PATH_LIMIT {
        return Err(Error::SocketPathTooLong { path: path.to_owned() });
    }
    let dir = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| file_error("create directory", dir, source))?;
    let _lock = lock(dir, FlockArg::LockExclusive)?;
    match probe(path) {
        Probe::Live => return Ok(Bound::Live),
        Probe::Stale => unlink(path)?,
        Probe::Absent => {}
    }
    let listener = listen_at(path).map_err(|err| file_error("listen on", path, err.into()))?;
    Ok(Bound::Fresh(Socket { listener: UnixListener::from(listener), file: SocketFile::at(path) }))
}

/// Removes the socket at `path` when nobody listens on it. When many shims have died at once, as
/// many want the lock.
///
/// # Errors
/// When the directory cannot be locked or the file not removed.
pub(crate) async fn remove_stale(path: &Path) -> Result<(), Error> {
    if identity(path).is_none() {
        return Ok(());
    }
    let dir = path.parent().unwrap_or(Path::new("/"));
    let _lock = lock_soon(dir).await?;
    match probe(path) {
        Probe::Stale => unlink(path),
        Probe::Live | Probe::Absent => Ok(()),
    }
}

/// Waiting, where it waits, is for a bind or two: a holder does nothing else, and the kernel
/// drops the lock of one that dies.
fn lock(dir: &Path, how: FlockArg) -> Result<Flock<File>, Error> {
    let open = File::open(dir).map_err(|source| file_error("open", dir, source))?;
    Flock::lock(open, how).map_err(|(_, errno)| file_error("lock", dir, errno.into()))
}

/// As [`lock`], but not for ever: a holder may have been stopped.
async fn lock_soon(dir: &Path) -> Result<Flock<File>, Error> {
    let mut tries = LOCK_TRIES;
    loop {
        match lock(dir, FlockArg::LockExclusiveNonblock) {
            Err(Error::File { source, .. })
                if source.kind() == io::ErrorKind::WouldBlock && tries > 0 =>
            {
                tries -= 1;
                sleep(LOCK_PAUSE).await;
            }
            locked => return locked,
        }
    }
}

/// Nothing becomes wider than 0600 on the way, whatever the umask: bind(2) makes the file with
/// the mode of the socket's own inode, reduced by the umask, and chmod gives back what that took.
fn listen_at(path: &Path) -> nix::Result<OwnedFd> {
    let fd = stream_socket()?;
    fchmod(&fd, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    let open = std::fs::set_permissions(path, Permissions::from_mode(0o600))
        .map_err(|err| Errno::from_raw(err.raw_os_error().unwrap_or_default()))
        .and_then(|()| listen(&fd, Backlog::MAXCONN));
    // The file is ours since bind. Left behind it is stale, and the next taker replaces it.
    open.map(|()| fd)
}

fn stream_socket() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::Stream, flags, None)
}

enum Probe {
    Absent,
    Stale,
    Live,
}

/// Whether somebody listens at `path`. A full backlog (`EAGAIN`) is somebody, too.
fn probe(path: &Path) -> Probe {
    let tried = stream_socket().and_then(|fd| connect(fd.as_raw_fd(), &UnixAddr::new(path)?));
    match tried {
        Ok(()) | Err(Errno::EAGAIN) => Probe::Live,
        Err(Errno::ECONNREFUSED) if identity(path).is_some() => Probe::Stale,
        // Absent, or nothing that is ours to remove: then bind will say what is wrong.
        Err(_) => Probe::Absent,
    }
}

fn unlink(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(file_error("remove", path, err)),
        _ => Ok(()),
    }
}

fn file_error(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
