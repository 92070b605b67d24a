// SPDX-License-Identifier: Apache-2.0
//! Streams that are open, for a process that does not exist yet.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::copier::Copier;
use crate::error::Error;
use crate::fifo::Fifo;
use crate::file::LogFile;
use crate::logger::Logger;
use crate::pipe::Pipe;

/// Open streams of a process that is about to be started. Dropping it closes them.
#[derive(Debug)]
pub struct Prepared {
    streams: Streams,
}

/// What connects the client with the process.
#[derive(Debug)]
pub(crate) enum Streams {
    /// A pipe for each stream that the client asked for.
    Pipes { stdin: Option<PipedInput>, outputs: Vec<PipedOutput> },
    /// Pipes to a logging binary: the shim copies nothing. `None` once it was handed out.
    Logger { logger: Logger, stdout: Option<OwnedFd>, stderr: Option<OwnedFd> },
    /// A pty, which the OCI runtime will make.
    Terminal { stdin: Option<Fifo>, output: TerminalOutput },
}

/// Stdin by a pipe.
#[derive(Debug)]
pub(crate) struct PipedInput {
    pub(crate) fifo: Fifo,
    pub(crate) pipe: Pipe,
}

/// Stdout or stderr by a pipe.
#[derive(Debug)]
pub(crate) struct PipedOutput {
    pub(crate) stream: &'static str,
    pub(crate) sink: Sink,
    pub(crate) pipe: Pipe,
}

/// Where the output of a pipe goes.
#[derive(Debug)]
pub(crate) enum Sink {
    Fifo(Fifo),
    File(LogFile),
}

/// Where the output of a terminal goes.
#[derive(Debug)]
pub(crate) enum TerminalOutput {
    Fifo(Fifo),
    /// The pipe to the logging binary, non-blocking; and what the binary is for messages.
    Logger {
        logger: Logger,
        pipe: File,
        path: PathBuf,
    },
}

impl Prepared {
    pub(crate) fn new(streams: Streams) -> Prepared {
        Prepared { streams }
    }

    /// Hands out the ends for the process: stdin, stdout, stderr, `None` meaning `/dev/null`. With
    /// a terminal, and when called again, all are `None`.
    ///
    /// The caller must close them when the process has its own: the end of the output is seen
    /// only when no copy of these is left.
    pub fn take_child(&mut self) -> (Option<OwnedFd>, Option<OwnedFd>, Option<OwnedFd>) {
        let (stdin, outputs) = match &mut self.streams {
            Streams::Pipes { stdin, outputs } => (stdin, outputs),
            Streams::Logger { stdout, stderr, .. } => return (None, stdout.take(), stderr.take()),
            Streams::Terminal { .. } => return (None, None, None),
        };
        let mut output = |stream| {
            outputs
                .iter_mut()
                .find(|output| output.stream == stream)
                .and_then(|output| output.pipe.theirs.take())
        };
        let (stdout, stderr) = (output("stdout"), output("stderr"));
        (stdin.as_mut().and_then(|stdin| stdin.pipe.theirs.take()), stdout, stderr)
    }

    /// Starts to copy, as tasks of the current tokio runtime, which must have I/O and time
    /// enabled. `console` is the pty master the OCI runtime sent; without a terminal it is closed.
    ///
    /// Call it when the OCI runtime has returned, and not before: the ends that
    /// [`Prepared::take_child`] did not hand out are closed here.
    ///
    /// # Errors
    /// When a terminal was asked for and there is no console, or a descriptor cannot be watched.
    /// Everything is closed then.
    pub fn start(self, console: Option<OwnedFd>) -> Result<Copier, Error> {
        match self.streams {
            Streams::Pipes { stdin, outputs } => Copier::pipes(stdin, outputs),
            Streams::Logger { logger, .. } => Ok(Copier::logger(logger)),
            Streams::Terminal { stdin, output } => {
                let console = console.ok_or_else(|| Error::Watch {
                    stream: "console",
                    source: io::Error::new(io::ErrorKind::InvalidInput, "no pty master"),
                })?;
                Copier::terminal(console, stdin, output)
            }
        }
    }
}
