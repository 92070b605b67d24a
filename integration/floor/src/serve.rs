// SPDX-License-Identifier: Apache-2.0
//! A shim's start: a program that binds a socket and spawns another, which serves it.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// From spawning the first until the second has answered.
#[expect(clippy::disallowed_methods, reason = "it has no reaper")]
pub(crate) fn run(dir: &Path, number: usize) -> Result<Duration> {
    let socket = dir.join(format!("floor-{number}.sock"));
    let own = std::env::current_exe()?;
    let begun = Instant::now();
    let start = Command::new(&own).arg("bind").arg(&socket).stdin(Stdio::null()).output()?;
    ensure!(start.status.success(), "bind: {start:?}");
    let mut stream = UnixStream::connect(&socket)?;
    stream.read_exact(&mut [0])?;
    let took = begun.elapsed();
    std::fs::remove_file(socket)?;
    // The server ends with its one connection.
    drop(stream);
    Ok(took)
}

/// The first.
#[expect(clippy::disallowed_methods, reason = "it has no reaper")]
pub(crate) fn bind(socket: &Path) -> Result<()> {
    let listener = UnixListener::bind(socket)?;
    let mut server = Command::new(std::env::current_exe()?);
    server.arg("serve").stdin(Stdio::from(OwnedFd::from(listener)));
    server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("spawning the server")?;
    Ok(())
}

/// The second: its standard input is the socket.
pub(crate) fn serve() -> Result<()> {
    let listener = UnixListener::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let (mut stream, _) = listener.accept()?;
    stream.write_all(&[0])?;
    // Until the other side is gone.
    stream.read_to_end(&mut Vec::new()).map(drop).or(Ok(()))
}
