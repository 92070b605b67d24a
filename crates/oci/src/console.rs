// SPDX-License-Identifier: Apache-2.0
//! The socket over which the runtime sends a container's terminal (`--console-socket`,
//! docs/terminals.md of runc).

use std::env;
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::mkdtemp;
use tokio::io::Interest;
use tokio::net::UnixListener;
use tokio::time::timeout;

use crate::error::{Error, Result, on_path};
use crate::temporary::remove;

/// How long the runtime may take to send the terminal. It normally has before it returns.
const LIMIT: Duration = Duration::from_secs(30);

/// A listening socket in a directory of its own, both gone when this is dropped.
#[derive(Debug)]
pub struct ConsoleSocket {
    listener: UnixListener,
    dir: SocketDir,
}

impl ConsoleSocket {
    /// Makes the directory, in `$XDG_RUNTIME_DIR`, `$TMPDIR` or /tmp, and listens.
    ///
    /// # Errors
    /// [`Error::Path`] of the call that failed.
    pub fn bind() -> Result<ConsoleSocket> {
        let dir = SocketDir::new()?;
        let bound = UnixListener::bind(&dir.socket);
        let listener = bound.map_err(on_path("listen unix", &dir.socket))?;
        Ok(ConsoleSocket { listener, dir })
    }

    /// The argument of `--console-socket`.
    pub fn path(&self) -> &Path {
        &self.dir.socket
    }

    /// Waits for the terminal's master side, at most 30 seconds.
    ///
    /// # Errors
    /// [`Error::ConsoleTimeout`], or [`Error::Console`] when something else than a terminal came.
    pub async fn receive(self) -> Result<OwnedFd> {
        self.receive_within(LIMIT).await
    }

    async fn receive_within(self, limit: Duration) -> Result<OwnedFd> {
        match timeout(limit, self.receive_one()).await {
            Ok(received) => received.map_err(|cause| Error::Console { cause }),
            Err(_elapsed) => Err(Error::ConsoleTimeout { limit }),
        }
    }

    async fn receive_one(&self) -> io::Result<OwnedFd> {
        let (stream, _) = self.listener.accept().await?;
        let receive = || wedge_sys::receive_fd(&stream);
        let master = stream.async_io(Interest::READABLE, receive).await?;
        if !wedge_sys::is_tty(&master) {
            let cause = "the runtime sent something that is not a terminal";
            return Err(io::Error::new(io::ErrorKind::InvalidData, cause));
        }
        Ok(master)
    }
}

/// A directory only we can enter, with one socket in it.
#[derive(Debug)]
struct SocketDir {
    dir: PathBuf,
    socket: PathBuf,
}

impl SocketDir {
    fn new() -> Result<SocketDir> {
        let session = env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
        let parent = session.clone().map_or_else(env::temp_dir, PathBuf::from);
        let template = parent.join("ptyXXXXXX");
        let made = mkdtemp(&template).map_err(io::Error::from).map_err(on_path("mkdir", template));
        let dir = made?;
        let made = SocketDir { socket: dir.join("pty.sock"), dir };
        if session.is_some() {
            // Without the sticky bit the directory may be cleaned up (XDG Base Directory spec).
            let sticky = Permissions::from_mode(0o1700);
            fs::set_permissions(&made.dir, sticky).map_err(on_path("chmod", &made.dir))?;
        }
        Ok(made)
    }
}

impl Drop for SocketDir {
    fn drop(&mut self) {
        remove(&self.socket, fs::remove_file);
        remove(&self.dir, fs::remove_dir);
    }
}

#[cfg(test)]
mod tests;
