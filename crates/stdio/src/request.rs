// SPDX-License-Identifier: Apache-2.0
//! What the client asked for.

use std::path::Path;

use wedge_reaper::Reaper;

use crate::error::Error;
use crate::fifo::Fifo;
use crate::file::LogFile;
use crate::logger::{Logger, LoggerRules, Started};
use crate::pipe::{Pipe, set_nonblocking};
use crate::prepared::{PipedInput, PipedOutput, Prepared, Sink, Streams, TerminalOutput};
use crate::uri::{Binary, Target};

/// The streams of a process as containerd's Create and Exec requests name them. An empty address
/// means `/dev/null`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Whether the process gets a pty instead of pipes. All its output is then stdout.
    pub terminal: bool,
    /// The path of the stdin fifo. With a logging binary and no terminal there is no stdin.
    pub stdin: String,
    /// The path of the stdout fifo, or a URI. Its scheme decides for stderr too.
    pub stdout: String,
    /// The path of the stderr fifo.
    pub stderr: String,
}

/// Who owns the process's ends of the pipes: the `io_uid` and `io_gid` of the runtime options.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owner {
    /// User id on the host.
    pub uid: u32,
    /// Group id on the host.
    pub gid: u32,
}

/// What the streams of a process have to know of it.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Who owns the pipes.
    pub owner: Owner,
    /// The id of the container, or of the exec: a logging binary's `CONTAINER_ID`.
    pub id: &'a str,
    /// The containerd namespace: its `CONTAINER_NAMESPACE`.
    pub namespace: &'a str,
    /// Starts the logging binary, and waits for it.
    pub reaper: &'a Reaper,
    /// What a logging binary is held to.
    pub loggers: &'a LoggerRules,
}

impl Request {
    /// Opens all that the OCI runtime needs to start the process. Does not wait for the client to
    /// open its ends, but for a logging binary to become ready, as long as the rules say.
    ///
    /// Call it on the thread that drives the reaper.
    ///
    /// # Errors
    /// For an address that is no fifo or has a scheme that is not served, when a descriptor cannot
    /// be made, and when a logging binary is refused or fails. Nothing stays open then.
    pub async fn prepare(&self, context: &Context<'_>) -> Result<Prepared, Error> {
        let target = Target::parse(&self.stdout);
        if self.terminal {
            // Go knows only the logging binaries here, and takes anything else for a path.
            return match target {
                Ok(Target::Logger(binary)) => self.prepare_logged_terminal(binary, context).await,
                Ok(Target::Fifo | Target::File(_)) | Err(_) => self.prepare_terminal(),
            };
        }
        match target? {
            Target::Fifo => self.prepare_pipes(context.owner, |address| {
                Fifo::output(fifo_path(address)).map(Sink::Fifo)
            }),
            Target::File(path) => {
                let file = LogFile::open(path).await?;
                self.prepare_pipes(context.owner, |_| Ok(Sink::File(file.clone())))
            }
            Target::Logger(binary) => {
                let Started { logger, stdout, stderr } = Logger::start(&binary, context).await?;
                let (stdout, stderr) = (Some(stdout), Some(stderr));
                Ok(Prepared::new(Streams::Logger { logger, stdout, stderr }))
            }
        }
    }

    fn prepare_terminal(&self) -> Result<Prepared, Error> {
        if self.stdout.is_empty() {
            return Err(Error::NoTerminalOutput);
        }
        let stdin = self.stdin_fifo()?;
        let output = TerminalOutput::Fifo(Fifo::output(Path::new(&self.stdout))?);
        Ok(Prepared::new(Streams::Terminal { stdin, output }))
    }

    async fn prepare_logged_terminal(
        &self,
        binary: Binary,
        context: &Context<'_>,
    ) -> Result<Prepared, Error> {
        let stdin = self.stdin_fifo()?;
        // A terminal has no stderr: the logger sees the end of that one at once.
        let Started { logger, stdout, .. } = Logger::start(&binary, context).await?;
        set_nonblocking(&stdout)
            .map_err(|source| Error::LoggerPipe { stream: "stdout", source })?;
        let output = TerminalOutput::Logger { logger, pipe: stdout.into(), path: binary.path };
        Ok(Prepared::new(Streams::Terminal { stdin, output }))
    }

    /// Pipes for the streams that have an address; `sink` opens where an output goes.
    fn prepare_pipes(
        &self,
        owner: Owner,
        sink: impl Fn(&str) -> Result<Sink, Error>,
    ) -> Result<Prepared, Error> {
        let stdin = match self.stdin_fifo()? {
            Some(fifo) => Some(PipedInput { fifo, pipe: Pipe::input(owner)? }),
            None => None,
        };
        let mut outputs = Vec::new();
        for (stream, address) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !address.is_empty() {
                let sink = sink(address)?;
                outputs.push(PipedOutput { stream, sink, pipe: Pipe::output(stream, owner)? });
            }
        }
        Ok(Prepared::new(Streams::Pipes { stdin, outputs }))
    }

    fn stdin_fifo(&self) -> Result<Option<Fifo>, Error> {
        if self.stdin.is_empty() {
            return Ok(None);
        }
        Fifo::input(Path::new(&self.stdin)).map(Some)
    }
}

/// The path in an address with or without the `fifo` scheme.
fn fifo_path(address: &str) -> &Path {
    Path::new(address.strip_prefix("fifo://").unwrap_or(address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    async fn refusal(request: &Request) -> Error {
        let reaper = Reaper::new();
        let owner = Owner::default();
        let loggers = LoggerRules::default();
        let context =
            Context { owner, id: "c", namespace: "n", reaper: &reaper, loggers: &loggers };
        request.prepare(&context).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_terminal_needs_an_output_and_takes_a_file_uri_for_a_path() {
        let mut request = Request { terminal: true, ..Request::default() };
        assert_eq!(refusal(&request).await.kind(), ErrorKind::InvalidArgument);
        request.stdout = "file:///nothing/here".to_owned();
        assert_eq!(refusal(&request).await.kind(), ErrorKind::Unknown);
    }

    #[tokio::test]
    async fn a_bad_address_fails_with_a_terminal_and_without() {
        for terminal in [false, true] {
            let stdout = "binary:///no/such/logger".to_owned();
            let err = refusal(&Request { terminal, stdout, ..Request::default() }).await;
            assert_eq!(err.kind(), ErrorKind::Unknown, "{err}");
        }
        let stdout = "streaming+unix:///x".to_owned();
        let err = refusal(&Request { stdout, ..Request::default() }).await;
        assert_eq!(err.to_string(), "unknown STDIO scheme streaming+unix");
    }

    #[test]
    fn a_fifo_has_a_scheme_or_not() {
        assert_eq!(fifo_path("/run/a:b"), Path::new("/run/a:b"));
        assert_eq!(fifo_path("fifo:///run/x"), Path::new("/run/x"));
    }
}
