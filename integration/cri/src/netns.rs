// SPDX-License-Identifier: Apache-2.0
//! A network namespace with a name in the test's directory.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};
use wedge_integration::{Cmd, wait};

/// A network namespace, held by a mount of it: it ends with that, and with the last process in it.
/// The mount is in the test's directory, so it is found and removed after a failure.
#[derive(Debug)]
pub struct NetNs(PathBuf);

impl NetNs {
    /// Makes one, with a loopback device that is up, and holds it at `path`.
    ///
    /// # Errors
    /// `unshare` or `ip` fails.
    pub(crate) fn hold_at(path: PathBuf) -> Result<NetNs> {
        fs::write(&path, "")?;
        let mut flag = OsString::from("--net=");
        flag.push(&path);
        let out = Cmd::new("unshare").arg(flag).args(["ip", "link", "set", "lo", "up"]).output()?;
        out.assert_ok();
        Ok(NetNs(path))
    }

    /// Where it is held.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The command that runs what follows it in here.
    pub fn entrance(&self) -> [OsString; 2] {
        let mut flag = OsString::from("--net=");
        flag.push(&self.0);
        ["nsenter".into(), flag]
    }

    /// A command that runs in here.
    pub fn cmd(&self, program: &str) -> Cmd {
        Cmd::new("nsenter").args(self.entrance().into_iter().skip(1)).arg(program)
    }

    /// Connects to an address in here. A socket stays in the namespace it was made in, so a thread
    /// goes there for it.
    ///
    /// # Errors
    /// The namespace is gone, or nobody listens.
    pub fn connect(&self, address: SocketAddr) -> Result<TcpStream> {
        let namespace = File::open(&self.0)?;
        let connecting = thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).context("joining a network namespace")?;
            let limit = wait::scaled(Duration::from_secs(5));
            TcpStream::connect_timeout(&address, limit).context("connecting")
        });
        connecting.join().map_err(|_| anyhow!("the thread panicked"))?
    }

    /// Lets it go.
    ///
    /// # Errors
    /// `umount` fails.
    pub(crate) fn release(&self) -> Result<()> {
        Cmd::new("umount").arg(&self.0).output()?.assert_ok();
        Ok(())
    }
}
