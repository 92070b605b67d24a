// SPDX-License-Identifier: Apache-2.0
//! A log file of the client's, `file://`.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use crate::copy;
use crate::error::Error;

/// How much is written at once.
const BLOCK: usize = 16 << 10;

/// A file that output is appended to. Clones share one open file description, which is closed
/// with the last (containerd #3118).
///
/// A file is always ready and yet may take long, on a network or a busy disk: to be opened, written
/// and closed. Each is done on a thread that may block.
#[derive(Debug, Clone)]
pub(crate) struct LogFile {
    path: Arc<Path>,
    file: Arc<Opened>,
}

/// Closed where that may block, whoever drops it.
#[derive(Debug)]
struct Opened(Option<File>);

impl Opened {
    fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |mut file| file.write_all(bytes))
    }

    /// Where that may block.
    fn close(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(file) = self.0.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn_blocking(move || drop(file));
        }
    }
}

impl LogFile {
    /// Opens the file. Makes it, mode 0644, and the directories it is in, mode 0755, if need be;
    /// the umask applies.
    pub(crate) async fn open(path: PathBuf) -> Result<LogFile, Error> {
        let opened = spawn_blocking(move || LogFile::open_now(&path)).await;
        opened.map_err(|cause| Error::Interrupted { cause })?
    }

    fn open_now(path: &Path) -> Result<LogFile, Error> {
        let failed = |call| move |source| Error::File { call, path: path.to_owned(), source };
        if let Some(parent) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(parent)
                .map_err(failed("mkdir"))?;
        }
        let file = open(path).map_err(failed("open"))?;
        Ok(LogFile { path: path.into(), file: Arc::new(Opened(Some(file))) })
    }

    /// Appends the output of a process until all writers of the pipe are gone. What cannot be
    /// written is dropped, so that the process neither blocks nor gets SIGPIPE; a disk that was
    /// full may have room again for what comes later.
    ///
    /// It is written by write(2): splice(2) refuses `O_APPEND`.
    pub(crate) async fn append(self, stream: &'static str, pipe: &AsyncFd<File>) {
        self.write(stream, pipe).await;
        if let Some(file) = Arc::into_inner(self.file)
            && let Err(err) = spawn_blocking(move || file.close()).await
        {
            log::debug!(stream = stream; "a log file is closed by the end of the shim: {err}");
        }
    }

    async fn write(&self, stream: &'static str, pipe: &AsyncFd<File>) {
        let mut block = vec![0; BLOCK];
        let mut dropping = false;
        loop {
            let count = match copy::read(pipe, &mut block).await {
                Ok(0) => return,
                Ok(count) => count,
                Err(err) => {
                    log::warn!(stream = stream; "cannot read the output of the process: {err}");
                    return;
                }
            };
            let file = Arc::clone(&self.file);
            let written = spawn_blocking(move || {
                let result = file.write_all(block.get(..count).unwrap_or_default());
                (block, result)
            });
            // The runtime is being torn down otherwise.
            let Ok((returned, result)) = written.await else { return };
            block = returned;
            if let Err(err) = &result
                && !dropping
            {
                log::warn!(stream = stream; "dropping output for {:?}: {err}", self.path);
            }
            dropping = result.is_err();
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    // Neither a symbolic link that a less trusted owner of the directory may have put there, nor a
    // fifo without a reader, which would block, nor a device.
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o644)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
}
