// SPDX-License-Identifier: Apache-2.0
//! The process's side when it has a terminal: the master of a pty, pty(7).

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::poll::PollFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::consume_budget;
use wedge_sys::Polled;

use crate::copy;
use crate::fifo::polls;
use crate::pipe::set_nonblocking;

/// A pty master. The pty is gone, and its session gets SIGHUP, when this is dropped.
#[derive(Debug)]
pub(crate) struct Terminal {
    master: Polled<File>,
    /// The slave, held open. Whenever *nobody* has the slave open, as between the OCI runtime's
    /// own init and a program that opens `/dev/console` anew, the master reads `EIO` and polls
    /// `EPOLLHUP`: that is not the end, but it looks like it, and no edge tells when it is over.
    _slave: OwnedFd,
}

impl Terminal {
    pub(crate) fn new(master: OwnedFd) -> io::Result<Terminal> {
        set_nonblocking(&master)?;
        let slave = wedge_sys::open_pty_peer(&master)?;
        let master = wedge_sys::watch(File::from(master), Interest::READABLE | Interest::WRITABLE)?;
        Ok(Terminal { master, _slave: slave })
    }

    /// Whether there is output that has not been read from it.
    pub(crate) fn has_output(&self) -> bool {
        polls(self.master.get_ref(), PollFlags::POLLIN)
    }

    /// Sets the window size, in characters.
    pub(crate) fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        wedge_sys::set_window_size(self.master.get_ref(), columns, rows)
    }

    /// Copies both ways until `stop` is true and the output that was pending then is in its fifo.
    /// The end of stdin sets `stop` too: like Go, which closes the master then.
    pub(crate) async fn run(
        &self,
        stdin: Option<(PathBuf, Polled<File>)>,
        stdout: (&Path, &AsyncFd<File>),
        stop: &watch::Sender<bool>,
    ) {
        // Two futures, because input must get through while the output is stuck: that may be the
        // Ctrl-C which ends the output.
        let input = async {
            if let Some((path, fifo)) = stdin {
                if let Err(err) = self.feed(&fifo).await {
                    log::warn!(stream = "stdin"; "no further input from {path:?}: {err}");
                }
                stop.send_replace(true);
            }
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            () = self.pump(stdout, stop.subscribe()) => {}
            never = input => match never {},
        }
    }

    async fn feed(&self, stdin: &AsyncFd<File>) -> io::Result<()> {
        let mut buffer = [0; 1024];
        loop {
            let count = copy::read(stdin, &mut buffer).await?;
            let bytes = buffer.get(..count).unwrap_or_default();
            if bytes.is_empty() {
                return Ok(());
            }
            copy::write_all(&self.master, bytes).await?;
        }
    }

    async fn pump(&self, stdout: (&Path, &AsyncFd<File>), mut stop: watch::Receiver<bool>) {
        let (path, fifo) = stdout;
        // One page: a fifo that has room takes it at once (PIPE_BUF).
        let mut buffer = [0; 4096];
        let mut dropping = false;
        loop {
            consume_budget().await;
            let count = match self.next_output(&mut buffer, &mut stop).await {
                Ok(0) => return,
                Ok(count) => count,
                Err(err) => {
                    log::warn!(stream = "console"; "cannot read the terminal: {err}");
                    return;
                }
            };
            if dropping {
                continue;
            }
            if let Err(err) = copy::write_all(fifo, buffer.get(..count).unwrap_or_default()).await {
                log::warn!(stream = "console"; "dropping further output for {path:?}: {err}");
                dropping = true;
            }
        }
    }

    /// Reads output; 0 when `stop` is true and nothing is pending.
    async fn next_output(
        &self,
        buffer: &mut [u8],
        stop: &mut watch::Receiver<bool>,
    ) -> io::Result<usize> {
        let stopped = async { stop.wait_for(|stop| *stop).await.is_ok() };
        tokio::select! {
            biased;
            count = copy::read(&self.master, buffer) => return count,
            _ = stopped => {}
        }
        // The kernel moves output to the master from a work queue, so readiness may lag behind,
        // but a read flushes that queue before it answers EAGAIN (n_tty_read in n_tty.c).
        match self.master.get_ref().read(buffer) {
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => Ok(0),
            result => result,
        }
    }
}
