// SPDX-License-Identifier: Apache-2.0
//! The client's side: a named fifo, fifo(7).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::Error;

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
    // The reader first: opening it never waits, and with it there the writer cannot get ENXIO.
    let reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&node_path)?;
    let writer = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&node_path)?;
    Ok(Fifo { path: path.to_owned(), reader, writer })
}
