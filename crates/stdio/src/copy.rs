// SPDX-License-Identifier: Apache-2.0
//! Moving bytes between two non-blocking descriptors.
//!
//! tokio's readiness is edge-triggered: what is cleared comes back only with the next change in
//! the kernel. So a side's readiness is cleared only when that side *was seen* not to be ready
//! after the readiness was obtained; a change that comes in between is then another edge. And
//! tokio never clears "closed" (`EPOLLHUP`), so a source that hung up once counts as ended when it
//! is empty; waiting on it would spin.
//!
//! Every loop consumes tokio's task budget: a process that writes without pause must not keep the
//! single thread of the shim from its other work.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{SpliceFFlags, splice};
use nix::poll::PollFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::consume_budget;
use wedge_sys::poll_now;

/// More than a pipe of default size holds, so one call empties it.
const SPLICE_MAX: usize = 1 << 20;

/// Copies the output of a process to its fifo until all writers of the pipe are gone. When the
/// fifo fails, the rest is read and dropped, so that the process neither blocks nor gets SIGPIPE
/// (containerd #12462).
pub(crate) async fn output(
    stream: &'static str,
    path: &Path,
    pipe: &AsyncFd<File>,
    fifo: &AsyncFd<File>,
) {
    if let Err(err) = splice_all(pipe, fifo).await {
        log::warn!(stream = stream; "dropping further output for {path:?}: {err}");
        if let Err(err) = discard(pipe).await {
            log::warn!(stream = stream; "cannot read the output of the process: {err}");
        }
    }
}

/// Copies a stdin fifo to a process until all writers of the fifo are gone, or the process has
/// closed its stdin.
pub(crate) async fn input(path: &Path, fifo: &AsyncFd<File>, pipe: &AsyncFd<File>) {
    match splice_all(fifo, pipe).await {
        Ok(()) => {}
        Err(err) if err.kind() == io::ErrorKind::BrokenPipe => {}
        Err(err) => log::warn!(stream = "stdin"; "no further input from {path:?}: {err}"),
    }
}

/// Moves pages from one pipe to another, splice(2), until the source has ended.
async fn splice_all(source: &AsyncFd<File>, target: &AsyncFd<File>) -> io::Result<()> {
    let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
    loop {
        consume_budget().await;
        let mut readable = source.readable().await?;
        // Before waiting for room that an ended source does not need.
        if readable.ready().is_read_closed() && !is_ready(source, PollFlags::POLLIN)? {
            return Ok(());
        }
        let mut writable = target.writable().await?;
        match splice(source.get_ref(), None, target.get_ref(), None, SPLICE_MAX, flags) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::EINTR) => {}
            // Which side it was, only poll(2) can tell.
            Err(Errno::EAGAIN) => {
                if !is_ready(source, PollFlags::POLLIN)? {
                    readable.clear_ready();
                }
                if !is_ready(target, PollFlags::POLLOUT | PollFlags::POLLERR)? {
                    writable.clear_ready();
                }
            }
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Whether one of `events` is there.
fn is_ready(file: &AsyncFd<File>, events: PollFlags) -> io::Result<bool> {
    Ok(poll_now(file.get_ref(), events)?.intersects(events))
}

/// Reads until the end of the source, to nowhere.
async fn discard(source: &AsyncFd<File>) -> io::Result<()> {
    let mut buffer = [0; 1024];
    while read(source, &mut buffer).await? > 0 {}
    Ok(())
}

/// Reads what is there, waiting for something. 0 is the end. Nothing is lost when the future is
/// dropped.
pub(crate) async fn read(source: &AsyncFd<File>, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        consume_budget().await;
        let mut readable = source.readable().await?;
        match source.get_ref().read(buffer) {
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                if readable.ready().is_read_closed() {
                    return Ok(0);
                }
                readable.clear_ready();
            }
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Writes all of `bytes`.
pub(crate) async fn write_all(target: &AsyncFd<File>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = target.async_io(Interest::WRITABLE, |mut file| file.write(bytes)).await;
        match written {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
