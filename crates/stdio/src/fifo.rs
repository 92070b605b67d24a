// SPDX-License-Identifier: Apache-2.0
//! The client's side: a named fifo, fifo(7).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::poll::PollFlags;
use tokio::time::sleep;
use wedge_sys::poll_now;

use crate::error::Error;

/// How long the end of an output may wait for a client to read it.
const TAKEN_LIMIT: Duration = Duration::from_secs(2);

/// How long to wait before looking again whether a client has read, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// A fifo, open at both ends, non-blocking and close-on-exec. `O_NONBLOCK` belongs to these open
/// file descriptions only; the client's are not affected.
#[derive(Debug)]
pub(crate) struct Fifo {
    /// For messages; never opened again.
    pub(crate) path: PathBuf,
    /// For output: keeps a writer from `EPIPE` while no client reads.
    pub(crate) reader: File,
    /// For stdin: keeps the reader from end of file while no client writes.
    pub(crate) writer: File,
    /// A client had its reading end open before we opened ours.
    pub(crate) attended: bool,
}

impl Fifo {
    /// Opens the fifo that a client writes stdin to.
    pub(crate) fn input(path: &Path) -> Result<Fifo, Error> {
        open(path).map_err(|source| Error::OpenInput { path: path.to_owned(), source })
    }

    /// Opens the fifo that a client reads output from.
    pub(crate) fn output(path: &Path) -> Result<Fifo, Error> {
        open(path).map_err(|source| Error::OpenOutput { path: path.to_owned(), source })
    }
}

fn open(path: &Path) -> io::Result<Fifo> {
    // O_PATH opens nothing yet: a device has no side effect, and what is checked here is what is
    // opened below, whatever becomes of the path meanwhile.
    let node =
        OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)?;
    if !node.metadata()?.file_type().is_fifo() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a fifo"));
    }
    let node_path = format!("/proc/self/fd/{}", node.as_raw_fd());
    let end = |options: &mut OpenOptions| options.custom_flags(libc::O_NONBLOCK).open(&node_path);
    // ENXIO without a reader, fifo(7).
    let first = end(OpenOptions::new().write(true)).ok();
    let attended = first.is_some();
    // Opening the reader never waits, and with it there the writer cannot get ENXIO.
    let reader = end(OpenOptions::new().read(true))?;
    let writer = first.map_or_else(|| end(OpenOptions::new().write(true)), Ok)?;
    Ok(Fifo { path: path.to_owned(), reader, writer, attended })
}

/// Waits until clients have taken all that is in an output fifo, but not long. What it holds is
/// gone with its last open end, so the output of a short process would be lost if its client
/// opened the fifo only after we had closed it. There is no event for "empty", but a client that
/// is there makes it so at once. One that never comes must not hold up Delete.
///
/// Of a process that wrote nothing, a client that was not there before must have come, too: with
/// the last writer gone its open(2) would wait for ever.
pub(crate) async fn taken(reader: Arc<File>, writer: &File, attended: bool) {
    let mut patience = Patience::of(TAKEN_LIMIT);
    while polls(&reader, PollFlags::POLLIN) && patience.lasts().await {}
    if !attended {
        // A writer without any reader polls as POLLERR: ours must not count.
        drop(reader);
        while polls(writer, PollFlags::POLLERR) && patience.lasts().await {}
    }
}

/// The time there is to wait in.
pub(crate) struct Patience {
    limit: Duration,
    pause: Duration,
    waited: Duration,
}

impl Patience {
    pub(crate) fn of(limit: Duration) -> Patience {
        Patience { limit, pause: PAUSE.0, waited: Duration::ZERO }
    }

    /// Waits a little; false when there is no time left.
    pub(crate) async fn lasts(&mut self) -> bool {
        if self.waited >= self.limit {
            return false;
        }
        sleep(self.pause).await;
        self.waited += self.pause;
        self.pause = (self.pause * 2).min(PAUSE.1);
        true
    }
}

pub(crate) fn polls(file: &File, event: PollFlags) -> bool {
    poll_now(file, event).is_ok_and(|found| found.contains(event))
}
