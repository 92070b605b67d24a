// SPDX-License-Identifier: Apache-2.0
//! Running a short-lived command, an OCI runtime for instance, to completion.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::{Instant, timeout, timeout_at};

use crate::exit::ExitStatus;
use crate::reaper::{Child, Reaper};

/// How long output is still read after the command itself has ended. A hook or a daemon of it may
/// keep the pipe open for ever (containerd #4434).
const LINGER: Duration = Duration::from_secs(1);

/// Bounds of one command.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// After this time the command is killed.
    pub time: Duration,
    /// Output beyond this many bytes is read and thrown away.
    pub output: usize,
    /// The command goes on when this process ends; otherwise it is killed then. Its output is kept
    /// whole until it ends.
    pub survives: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { time: Duration::from_secs(300), output: 64 << 10, survives: false }
    }
}

/// What a command that ran to its end left.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output and standard error, in the order they were written. Empty when the caller
    /// had given the command other files.
    pub output: Vec<u8>,
}

/// Why a command did not run to its end.
#[derive(Debug, Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("failed to start {program}")]
    Spawn {
        /// The program's path or name.
        program: String,
        /// What fork or exec answered.
        source: io::Error,
    },
    /// Its input could not be written or a pipe could not be made.
    #[error("failed to set up {what} of a command")]
    Pipe {
        /// Which stream.
        what: &'static str,
        /// The error of the call.
        source: io::Error,
    },
    /// It took longer than its limit and was killed.
    #[error("{program} did not end within {limit:?} and was killed")]
    Timeout {
        /// The program's path or name.
        program: String,
        /// The limit.
        limit: Duration,
    },
}

impl Reaper {
    /// Runs `command` with its standard output and error captured, and `input` on its standard
    /// input (nothing: /dev/null).
    ///
    /// # Errors
    /// When it cannot be started or does not end in time; a failing command is no error here.
    pub async fn capture(
        &self,
        mut command: Command,
        input: Option<&[u8]>,
        limits: Limits,
    ) -> Result<Output, CommandError> {
        let failed = |source| CommandError::Pipe { what: "the output", source };
        command.stdin(stdin_with(input)?);
        if limits.survives {
            return self.capture_in_file(command, limits).await;
        }
        let (reader, writer) = io::pipe().map_err(failed)?;
        let second = writer.try_clone().map_err(failed)?;
        command.stdout(writer).stderr(second);
        let child = self.start(&mut command, limits)?;
        // The command holds our copies of the pipe's write end: without it gone, no end of file.
        let program = program_of(&command);
        drop(command);
        let reader = pipe::Receiver::from_owned_fd(OwnedFd::from(reader)).map_err(failed)?;
        finish(program, child, Some(reader), limits).await
    }

    /// A pipe would break with our end, and what is left of the command die of its next word.
    async fn capture_in_file(
        &self,
        mut command: Command,
        limits: Limits,
    ) -> Result<Output, CommandError> {
        let failed = |source| CommandError::Pipe { what: "the output", source };
        let mut file = anonymous_file(&[]).map_err(failed)?;
        command.stdout(file.try_clone().map_err(failed)?);
        command.stderr(file.try_clone().map_err(failed)?);
        let mut output = self.complete(command, limits).await?;
        let most = u64::try_from(limits.output).unwrap_or(u64::MAX);
        let read = file.rewind().and_then(|()| file.take(most).read_to_end(&mut output.output));
        read.map_err(failed)?;
        Ok(output)
    }

    /// Runs `command` with the streams the caller gave it.
    ///
    /// # Errors
    /// When it cannot be started or does not end in time; a failing command is no error here.
    pub async fn complete(
        &self,
        mut command: Command,
        limits: Limits,
    ) -> Result<Output, CommandError> {
        let child = self.start(&mut command, limits)?;
        let program = program_of(&command);
        // Our copies of a container's pipe ends go with the command.
        drop(command);
        finish(program, child, None, limits).await
    }

    fn start(&self, command: &mut Command, limits: Limits) -> Result<Child, CommandError> {
        let child = match limits.survives {
            true => self.spawn_surviving(command),
            false => self.spawn(command),
        };
        child.map_err(|source| CommandError::Spawn { program: program_of(command), source })
    }
}

fn program_of(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

/// A small input fits a pipe's buffer; a large one is put into an anonymous file, memfd_create(2).
/// Either way no task has to feed the command.
fn stdin_with(input: Option<&[u8]>) -> Result<Stdio, CommandError> {
    const FITS: usize = 32 << 10;
    let failed = |source| CommandError::Pipe { what: "the input", source };
    let Some(input) = input else {
        return Ok(Stdio::null());
    };
    if input.len() > FITS {
        return Ok(Stdio::from(anonymous_file(input).map_err(failed)?));
    }
    let (reader, mut writer) = io::pipe().map_err(failed)?;
    writer.write_all(input).map_err(failed)?;
    Ok(Stdio::from(reader))
}

fn anonymous_file(content: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("input", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file)
}

async fn finish(
    program: String,
    mut child: Child,
    mut reader: Option<pipe::Receiver>,
    limits: Limits,
) -> Result<Output, CommandError> {
    let mut output = Vec::new();
    let deadline = Instant::now() + limits.time;
    let ended = timeout_at(deadline, async {
        tokio::select! {
            exit = child.exit.wait() => exit,
            // Ends by itself only at end of file; the exit follows.
            () = read_all(reader.as_mut(), &mut output, limits.output) => child.exit.wait().await,
        }
    });
    let Ok(exit) = ended.await else {
        kill(&child);
        return Err(CommandError::Timeout { program, limit: limits.time });
    };
    if timeout(LINGER, read_all(reader.as_mut(), &mut output, limits.output)).await.is_err() {
        log::debug!("{program} has ended but something keeps its output open");
    }
    Ok(Output { status: exit.status, output })
}

async fn read_all(reader: Option<&mut pipe::Receiver>, output: &mut Vec<u8>, limit: usize) {
    let Some(reader) = reader else { return };
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = reader.read(&mut buffer).await {
        let room = limit.saturating_sub(output.len()).min(count);
        output.extend(buffer.iter().take(room));
    }
}

fn kill(child: &Child) {
    if let Err(err) = child.kill() {
        log::warn!(pid = child.pid; "failed to kill a command that took too long: {err}");
    }
}
