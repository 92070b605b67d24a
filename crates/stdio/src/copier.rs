// SPDX-License-Identifier: Apache-2.0
//! The running streams of one process.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use nix::poll::PollFlags;
use tokio::io::Interest;
use tokio::sync::watch;
use tokio::task::JoinSet;
use wedge_sys::Polled;

use crate::copy;
use crate::error::Error;
use crate::fifo::{self, Fifo, Patience};
use crate::logger::Logger;
use crate::prepared::{PipedInput, PipedOutput, Sink, TerminalOutput};
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
    /// Outputs of pipes and terminals to fifos.
    outputs: Vec<Unread>,
    /// How many outputs have not come to their end. The senders are the tasks: once all of them
    /// are gone, this can no longer reach zero.
    unfinished: watch::Receiver<usize>,
    /// Reads the output, of the process itself or of its terminal.
    logger: Mutex<Option<Logger>>,
}

impl Copier {
    pub(crate) fn pipes(
        stdin: Option<PipedInput>,
        outputs: Vec<PipedOutput>,
    ) -> Result<Copier, Error> {
        let mut tasks = JoinSet::new();
        let (unfinished, receiver) = watch::channel(outputs.len());
        let unfinished = Arc::new(unfinished);
        let mut unread = Vec::new();
        for output in outputs {
            unread.extend(spawn_output(&mut tasks, output, Arc::clone(&unfinished))?);
        }
        let mut hold = None;
        if let Some(PipedInput { fifo: Fifo { path, reader, writer, .. }, pipe }) = stdin {
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
            outputs: unread,
            unfinished: receiver,
            logger: Mutex::default(),
        })
    }

    /// Nothing is copied: the process writes to the logger.
    pub(crate) fn logger(logger: Logger) -> Copier {
        let (_, unfinished) = watch::channel(0);
        Copier {
            tasks: Mutex::default(),
            stdin: Mutex::default(),
            terminal: None,
            stop: Arc::default(),
            outputs: Vec::new(),
            unfinished,
            logger: Mutex::new(Some(logger.put_to_use())),
        }
    }

    pub(crate) fn terminal(
        master: OwnedFd,
        stdin: Option<Fifo>,
        output: TerminalOutput,
    ) -> Result<Copier, Error> {
        let terminal =
            Terminal::new(master).map_err(|source| Error::Watch { stream: "console", source })?;
        let terminal = Arc::new(terminal);
        let weak = Arc::downgrade(&terminal);
        let mut hold = None;
        let mut input = None;
        if let Some(Fifo { path, reader, writer, .. }) = stdin {
            input = Some((path, watched("stdin", reader, Interest::READABLE)?));
            hold = Some(writer);
        }
        let stop = Arc::new(watch::Sender::new(false));
        let (unfinished, receiver) = watch::channel(1);
        let mut tasks = JoinSet::new();
        let stopper = Arc::clone(&stop);
        let (path, writer, reader, logger) = match output {
            TerminalOutput::Fifo(Fifo { path, reader, writer, attended }) => {
                (path, writer, Some((Arc::new(reader), attended)), None)
            }
            TerminalOutput::Logger { logger, pipe, path } => (path, pipe, None, Some(logger)),
        };
        let target = watched("stdout", writer, Interest::WRITABLE)?;
        let logger = logger.map(Logger::put_to_use);
        let outputs = Vec::from_iter(reader.as_ref().map(|(reader, _)| Unread::of(&weak, reader)));
        tasks.spawn(async move {
            terminal.run(input, (&path, &target), &stopper).await;
            if let Some((reader, attended)) = reader {
                fifo::taken(reader, target.get_ref(), attended).await;
            }
            finish(&unfinished);
            drop((target, terminal));
        });
        Ok(Copier {
            tasks: Mutex::new(tasks),
            stdin: Mutex::new(hold),
            terminal: Some(weak),
            stop,
            outputs,
            unfinished: receiver,
            logger: Mutex::new(logger),
        })
    }

    /// Gives up the shim's own end of the stdin fifo. The process sees the end of its stdin when
    /// every client has closed the fifo too. May be called again, and without a stdin.
    pub fn close_stdin(&self) {
        drop(lock(&self.stdin).take());
    }

    /// Sets the terminal's size in characters; of each number the low 16 bits count. Without a
    /// terminal, or when it has ended, nothing happens: clients send a size right after the start,
    /// and a short process may be gone by then.
    ///
    /// # Errors
    /// That of `TIOCSWINSZ`.
    pub fn resize(&self, width: u32, height: u32) -> io::Result<()> {
        let Some(terminal) = self.terminal.as_ref().and_then(Weak::upgrade) else {
            return Ok(());
        };
        terminal.resize(low_half(width), low_half(height))
    }

    /// Tells that the process has ended. A terminal has no end of its own: its output ends when
    /// what is pending now has been copied, even if another process still has it open. Pipes end
    /// when their last writer is gone and need no telling.
    pub fn process_exited(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until the client has taken what the process has written to fifos so far, or `limit` has
    /// passed. Nothing tells when a fifo is empty, so this looks again and again.
    pub async fn taken(&self, limit: Duration) {
        let mut patience = Patience::of(limit);
        while self.outputs.iter().any(Unread::is_there) && patience.lasts().await {}
    }

    /// Waits until all output has ended and is in its fifo or file, or was dropped because that
    /// failed, which has been logged. What a process writes to a logging binary by itself is not
    /// waited for. False when `limit` has passed before, or the copies were closed. A process in
    /// the background that keeps the output open can make it so.
    pub async fn drain(&self, limit: Duration) -> bool {
        let mut unfinished = self.unfinished.clone();
        let ended = async { unfinished.wait_for(|unfinished| *unfinished == 0).await.is_ok() };
        tokio::time::timeout(limit, ended).await.unwrap_or(false)
    }

    /// Ends every copy. The descriptors are closed when the runtime next runs the tasks, before
    /// any task that is woken after this call. A logging binary is left to end in its time.
    pub fn close(&self) {
        self.close_stdin();
        drop(std::mem::take(&mut *lock(&self.tasks)));
        if let Some(logger) = &mut *lock(&self.logger) {
            logger.finish();
        }
    }

    /// As [`Copier::close`], and waits until a logging binary has ended: by itself, since its
    /// input has, after 2 seconds by SIGTERM, or 12 later by SIGKILL.
    pub async fn end(&self) {
        self.close();
        let logger = lock(&self.logger).take();
        if let Some(logger) = logger {
            logger.ended().await;
        }
    }
}

/// Where output of a process may be that its client has not read yet. Holds nothing open.
#[derive(Debug)]
struct Unread {
    source: Source,
    /// Our own reader of the client's fifo.
    fifo: Weak<File>,
}

#[derive(Debug)]
enum Source {
    Pipe(Weak<Polled<File>>),
    Terminal(Weak<Terminal>),
}

impl Unread {
    fn of(terminal: &Weak<Terminal>, reader: &Arc<File>) -> Unread {
        Unread { source: Source::Terminal(Weak::clone(terminal)), fifo: Arc::downgrade(reader) }
    }

    fn is_there(&self) -> bool {
        let written = match &self.source {
            Source::Pipe(pipe) => {
                pipe.upgrade().is_some_and(|pipe| fifo::polls(pipe.get_ref(), PollFlags::POLLIN))
            }
            Source::Terminal(terminal) => {
                terminal.upgrade().is_some_and(|terminal| terminal.has_output())
            }
        };
        let copied = || self.fifo.upgrade();
        written || copied().is_some_and(|fifo| fifo::polls(&fifo, PollFlags::POLLIN))
    }
}

/// Registers an output, and spawns the task that copies it.
fn spawn_output(
    tasks: &mut JoinSet<()>,
    output: PipedOutput,
    unfinished: Arc<watch::Sender<usize>>,
) -> Result<Option<Unread>, Error> {
    let PipedOutput { stream, sink, pipe } = output;
    let source = watched(stream, pipe.ours, Interest::READABLE)?;
    match sink {
        Sink::Fifo(Fifo { path, reader, writer, attended }) => {
            let writer = watched(stream, writer, Interest::WRITABLE)?;
            let (source, reader) = (Arc::new(source), Arc::new(reader));
            let pipe = Source::Pipe(Arc::downgrade(&source));
            let unread = Unread { source: pipe, fifo: Arc::downgrade(&reader) };
            tasks.spawn(async move {
                copy::output(stream, &path, &source, &writer).await;
                fifo::taken(reader, writer.get_ref(), attended).await;
                finish(&unfinished);
                // Only now may the client see the end: whoever asks for a drain then is told that
                // it is done.
                drop(writer);
            });
            Ok(Some(unread))
        }
        Sink::File(file) => {
            tasks.spawn(async move {
                file.append(stream, &source).await;
                finish(&unfinished);
            });
            Ok(None)
        }
    }
}

fn finish(unfinished: &watch::Sender<usize>) {
    unfinished.send_modify(|unfinished| *unfinished = unfinished.saturating_sub(1));
}

fn watched(stream: &'static str, file: File, interest: Interest) -> Result<Polled<File>, Error> {
    wedge_sys::watch(file, interest).map_err(|source| Error::Watch { stream, source })
}

fn low_half(number: u32) -> u16 {
    let [low, high, ..] = number.to_le_bytes();
    u16::from_le_bytes([low, high])
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
