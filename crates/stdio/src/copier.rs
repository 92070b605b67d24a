// SPDX-License-Identifier: Apache-2.0
//! The running streams of one process.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::copy;
use crate::error::Error;
use crate::fifo::Fifo;
use crate::prepared::{PipedInput, PipedOutput};
use crate::pty::Terminal;

/// Copies the streams of one process. Owns the tasks that do it; dropping it ends them.
#[derive(Debug)]
pub struct Copier {
    tasks: Mutex<JoinSet<()>>,
    /// The shim's own writer of the stdin fifo, until the client closes stdin.
    stdin: Mutex<Option<File>>,
    /// The pty belongs to the task that copies it, so that it is gone when that ends.
    terminal: Option<Weak<Terminal>>,
    /// Set to true when a terminal has no more to say than what is pending.
    stop: Arc<watch::Sender<bool>>,
    /// How many outputs have not come to their end. The senders are the tasks: once all of them
    /// are gone, this can no longer reach zero.
    unfinished: watch::Receiver<usize>,
}

impl Copier {
    pub(crate) fn pipes(
        stdin: Option<PipedInput>,
        outputs: Vec<PipedOutput>,
    ) -> Result<Copier, Error> {
        let mut tasks = JoinSet::new();
        let (unfinished, receiver) = watch::channel(outputs.len());
        let unfinished = Arc::new(unfinished);
        for output in outputs {
            tasks.spawn(copy_output(output, Arc::clone(&unfinished))?);
        }
        let mut hold = None;
        if let Some(PipedInput { fifo: Fifo { path, reader, writer }, pipe }) = stdin {
            let source = watched("stdin", reader, Interest::READABLE)?;
            let target = watched("stdin", pipe.ours, Interest::WRITABLE)?;
            tasks.spawn(async move { copy::input(&path, &source, &target).await });
            hold = Some(writer);
        }
        Ok(Copier {
            tasks: Mutex::new(tasks),
            stdin: Mutex::new(hold),
            terminal: None,
            stop: Arc::default(),
            unfinished: receiver,
        })
    }

    pub(crate) fn terminal(
        master: OwnedFd,
        stdin: Option<Fifo>,
        stdout: Fifo,
    ) -> Result<Copier, Error> {
        let terminal =
            Terminal::new(master).map_err(|source| Error::Watch { stream: "console", source })?;
        let terminal = Arc::new(terminal);
        let weak = Arc::downgrade(&terminal);
        let mut hold = None;
        let mut input = None;
        if let Some(Fifo { path, reader, writer }) = stdin {
            input = Some((path, watched("stdin", reader, Interest::READABLE)?));
            hold = Some(writer);
        }
        let Fifo { path, reader, writer } = stdout;
        let target = watched("stdout", writer, Interest::WRITABLE)?;
        let stop = Arc::new(watch::Sender::new(false));
        let (unfinished, receiver) = watch::channel(1);
        let mut tasks = JoinSet::new();
        let stopper = Arc::clone(&stop);
        tasks.spawn(async move {
            terminal.run(input, (&path, &target), &stopper).await;
            finish(&unfinished);
            drop((target, reader, terminal));
        });
        Ok(Copier {
            tasks: Mutex::new(tasks),
            stdin: Mutex::new(hold),
            terminal: Some(weak),
            stop,
            unfinished: receiver,
        })
    }

    /// Gives up the shim's own end of the stdin fifo. The process sees the end of its stdin when
    /// every client has closed the fifo too. May be called again, and without a stdin.
    pub fn close_stdin(&self) {
        drop(lock(&self.stdin).take());
    }

    /// Sets the terminal's size in characters; of each number the low 16 bits count. Without a
    /// terminal nothing happens.
    ///
    /// # Errors
    /// `EBADF` when the terminal has ended and is closed, else the error of `TIOCSWINSZ`.
    pub fn resize(&self, width: u32, height: u32) -> io::Result<()> {
        let Some(terminal) = &self.terminal else {
            return Ok(());
        };
        match terminal.upgrade() {
            Some(terminal) => terminal.resize(low_half(width), low_half(height)),
            None => Err(io::Error::from_raw_os_error(libc::EBADF)),
        }
    }

    /// Tells that the process has ended. A terminal has no end of its own: its output ends when
    /// what is pending now has been copied, even if another process still has it open. Pipes end
    /// when their last writer is gone and need no telling.
    pub fn process_exited(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until all output has ended and is in its fifo, or was dropped because the fifo
    /// failed, which has been logged. False when `limit` has passed before, or the copies were
    /// closed. A process in the background that keeps the output open can make it so.
    pub async fn drain(&self, limit: Duration) -> bool {
        let mut unfinished = self.unfinished.clone();
        let ended = async { unfinished.wait_for(|unfinished| *unfinished == 0).await.is_ok() };
        tokio::time::timeout(limit, ended).await.unwrap_or(false)
    }

    /// Ends every copy. The descriptors are closed when the runtime next runs the tasks, before
    /// any task that is woken after this call.
    pub fn close(&self) {
        self.close_stdin();
        drop(std::mem::take(&mut *lock(&self.tasks)));
    }
}

/// Registers an output, and gives the task that copies it.
fn copy_output(
    output: PipedOutput,
    unfinished: Arc<watch::Sender<usize>>,
) -> Result<impl Future<Output = ()> + Send + 'static, Error> {
    let PipedOutput { stream, fifo: Fifo { path, reader, writer }, pipe } = output;
    let source = watched(stream, pipe.ours, Interest::READABLE)?;
    let target = watched(stream, writer, Interest::WRITABLE)?;
    Ok(async move {
        copy::output(stream, &path, &source, &target).await;
        finish(&unfinished);
        // Only now may the client see the end: whoever asks for a drain then is told that it is
        // done.
        drop((target, reader));
    })
}

fn finish(unfinished: &watch::Sender<usize>) {
    unfinished.send_modify(|unfinished| *unfinished = unfinished.saturating_sub(1));
}

fn watched(stream: &'static str, file: File, interest: Interest) -> Result<AsyncFd<File>, Error> {
    copy::watch(file, interest).map_err(|source| Error::Watch { stream, source })
}

fn low_half(number: u32) -> u16 {
    let [low, high, ..] = number.to_le_bytes();
    u16::from_le_bytes([low, high])
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
