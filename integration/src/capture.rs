// SPDX-License-Identifier: Apache-2.0
//! Reads a stream in a thread, so that its writer never waits for the test.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::wait;

/// Everything read from a stream so far.
#[derive(Debug)]
pub struct Capture {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Capture {
    /// Reads an open stream.
    pub(crate) fn of(stream: impl Read + Send + 'static) -> Capture {
        let bytes = Arc::default();
        let sink = Arc::clone(&bytes);
        Capture { bytes, reader: thread::spawn(move || copy(stream, &sink)) }
    }

    /// Opens a FIFO and reads it from when it has a writer. When this returns the FIFO has its
    /// reader, so that a writer can come and go before the thread runs.
    pub fn open(fifo: &Path) -> Capture {
        let nonblock = OFlag::O_NONBLOCK.bits();
        match OpenOptions::new().read(true).custom_flags(nonblock).open(fifo) {
            Ok(file) => Capture::of(Waiting(file)),
            Err(_) => Capture::of(io::empty()),
        }
    }

    /// What was read so far.
    pub fn so_far(&self) -> Vec<u8> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How much was read so far.
    pub fn len(&self) -> usize {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether nothing was read so far.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was read so far, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.so_far()).into_owned()
    }

    /// Waits until `text` was read.
    ///
    /// # Errors
    /// It does not come within [`wait::LIMIT`].
    pub fn wait_text(&self, text: &str) -> Result<()> {
        wait::until(&format!("{text:?} is read"), || {
            let seen = self.text();
            ensure!(seen.contains(text), "{seen:?}");
            Ok(())
        })
    }

    /// Waits for the end of the stream: all writers closed it. Returns everything.
    ///
    /// # Errors
    /// Somebody keeps it open for longer than [`wait::LIMIT`].
    pub fn finish(&self) -> Result<Vec<u8>> {
        self.finish_within(wait::LIMIT)
    }

    pub(crate) fn finish_within(&self, limit: Duration) -> Result<Vec<u8>> {
        wait::until_for(limit, "the stream ends", || {
            ensure!(self.reader.is_finished(), "open after {} bytes", self.len());
            Ok(())
        })?;
        Ok(self.so_far())
    }
}

/// A FIFO whose opening did not wait for a writer; reading does. Only poll(2) can tell one that
/// has had no writer yet from one that has none any more.
struct Waiting(File);

impl Read for Waiting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)?;
            match self.0.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }
}

/// Copies until the end of the stream; the EIO of a terminal whose program is gone is an end too.
fn copy(mut stream: impl Read, sink: &Mutex<Vec<u8>>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(n) => {
                let read = buffer.get(..n).unwrap_or_default();
                sink.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(read);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
