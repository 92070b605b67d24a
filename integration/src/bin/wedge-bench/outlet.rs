// SPDX-License-Identifier: Apache-2.0
//! A FIFO for a process's output, whose end is seen as soon as it comes.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Result;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use wedge_integration::fifo;

/// A FIFO and its reader.
#[derive(Debug)]
pub(crate) struct Outlet {
    pub(crate) path: String,
    source: File,
}

impl Outlet {
    pub(crate) fn new(dir: &Path, name: &str, stream: &str) -> Result<Outlet> {
        let path = dir.join(format!("{name}-{stream}"));
        fifo::make(&path)?;
        let nonblock = OFlag::O_NONBLOCK.bits();
        let source = OpenOptions::new().read(true).custom_flags(nonblock).open(&path)?;
        Ok(Outlet { path: path.to_string_lossy().into_owned(), source })
    }

    /// Reads until all writers are gone.
    pub(crate) fn finish(&self) -> Result<()> {
        let mut buffer = [0; 4096];
        loop {
            poll(&mut [PollFd::new(self.source.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)?;
            match (&self.source).read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).ok();
    }
}
