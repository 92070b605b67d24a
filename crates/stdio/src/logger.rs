// SPDX-License-Identifier: Apache-2.0
//! A logging binary, `binary://` and `binary-v2://`: a program of the host's that reads the output
//! of one process (containerd's core/runtime/v2/README.md, "Logging").

mod policy;

pub use policy::LoggerPolicy;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::oneshot;
use tokio::time::timeout;
use wedge_reaper::{Child, ExitWatch};

use crate::error::Error;
use crate::pipe::give;
use crate::request::Context;
use crate::uri::Binary;

/// How long, once its output is no longer wanted, it may take to reach the end of its input and
/// end by itself.
const GRACE: Duration = Duration::from_secs(2);
/// How long it may take to end once it was asked to by SIGTERM; as in Go.
const TERM: Duration = Duration::from_secs(12);
/// How long a killed one may take to be gone.
const KILL: Duration = Duration::from_secs(1);

/// What logging binaries are held to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggerRules {
    /// Which programs are run at all.
    pub policy: LoggerPolicy,
    /// How long one may take to say that it is ready. Go waits for ever.
    pub ready: Duration,
}

impl Default for LoggerRules {
    fn default() -> Self {
        LoggerRules { policy: LoggerPolicy::default(), ready: Duration::from_secs(10) }
    }
}

/// A running logging binary. Dropped before there is a process that writes to it, it is asked to
/// end at once. Later it lives as long as its container, which may outlive the shim.
#[derive(Debug)]
pub(crate) struct Logger {
    pid: u32,
    exit: ExitWatch,
    /// A process writes to it.
    in_use: bool,
    /// Until it was told to finish.
    finish: Option<oneshot::Sender<()>>,
}

/// A logging binary and the ends of its pipes that are to be written.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) logger: Logger,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

impl Logger {
    /// Starts the program and waits until it is ready. On an error it is gone.
    pub(crate) async fn start(binary: &Binary, context: &Context<'_>) -> Result<Started, Error> {
        let program = context.loggers.policy.resolve(&binary.path)?;
        let (out_reader, stdout) = pipe("stdout", context)?;
        let (err_reader, stderr) = pipe("stderr", context)?;
        let failed = |source| Error::LoggerStart { path: binary.path.clone(), source };
        let (ready, call) = io::pipe().map_err(failed)?;
        let mut command = Command::new(program);
        command.arg0(&binary.path).args(&binary.args).env_clear();
        command.env("CONTAINER_ID", context.id).env("CONTAINER_NAMESPACE", context.namespace);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let passed = [(out_reader, 3), (err_reader, 4), (OwnedFd::from(call), 5)];
        for (fd, number) in passed {
            wedge_sys::pass_fd(&mut command, fd, number).map_err(failed)?;
        }
        let child = context.reaper.spawn_surviving(&mut command).map_err(failed)?;
        // With our copies of its ends gone, a pipe breaks when the logger does.
        drop(command);
        log::info!(id = context.id, pid = child.pid; "started logging binary {:?}", binary.path);
        let mut logger = Logger::supervise(child, context.id);
        match await_ready(ready.into(), binary, context.loggers.ready).await {
            Ok(()) => Ok(Started { logger, stdout, stderr }),
            Err(err) => {
                logger.kill().await;
                Err(err)
            }
        }
    }

    fn supervise(child: Child, id: &str) -> Logger {
        let Child { pid, exit, .. } = child;
        let (finish, finished) = oneshot::channel();
        #[expect(clippy::disallowed_methods, reason = "ends with the logger, whose end it forces")]
        tokio::spawn(supervise(pid, exit.clone(), finished, id.to_owned()));
        Logger { pid, exit, in_use: false, finish: Some(finish) }
    }

    /// Says that a process writes to it from now on.
    pub(crate) fn put_to_use(mut self) -> Logger {
        self.in_use = true;
        self
    }

    /// Says that nothing more is wanted of it. It gets time to read what is left and to end, then
    /// SIGTERM, then SIGKILL.
    pub(crate) fn finish(&mut self) {
        // An error: it has ended, and so has who would receive this.
        if let Some(finish) = self.finish.take()
            && finish.send(()).is_err()
        {
            log::debug!(pid = self.pid; "the logging binary has ended already");
        }
    }

    /// Waits until it has ended, after [`Logger::finish`].
    pub(crate) async fn ended(&self) {
        ends_within(&self.exit, GRACE + TERM + KILL).await;
    }

    async fn kill(&mut self) {
        self.finish();
        signal(self.pid, &self.exit, libc::SIGKILL);
        ends_within(&self.exit, KILL).await;
    }
}

impl Drop for Logger {
    fn drop(&mut self) {
        if self.in_use {
            // Heard only if the shim is not about to end.
            self.finish();
        } else if self.finish.is_some() {
            signal(self.pid, &self.exit, libc::SIGTERM);
        }
    }
}

/// A pipe for the output of a process: the logger's end and the process's, both blocking.
fn pipe(stream: &'static str, context: &Context<'_>) -> Result<(OwnedFd, OwnedFd), Error> {
    let (reader, writer) = io::pipe().map_err(|source| Error::LoggerPipe { stream, source })?;
    give(stream, &writer, context.owner)?;
    Ok((reader.into(), writer.into()))
}

/// Waits for a byte, or, unless it must be `strict`, for the end of the pipe.
async fn await_ready(pipe: OwnedFd, binary: &Binary, limit: Duration) -> Result<(), Error> {
    let failed = |source| Error::LoggerReady { source };
    let mut pipe = Receiver::from_owned_fd(pipe).map_err(failed)?;
    match timeout(limit, pipe.read(&mut [0])).await {
        Ok(Ok(0)) if binary.strict => Err(Error::LoggerNotReady),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(source)) => Err(failed(source)),
        Err(_) => Err(Error::LoggerTimeout { path: binary.path.clone(), limit }),
    }
}

/// Follows a logger to its end, which `finished` calls for.
async fn supervise(pid: u32, exit: ExitWatch, finished: oneshot::Receiver<()>, id: String) {
    let mut ending = exit.clone();
    let asked = tokio::select! {
        end = ending.wait() => {
            if end.status.success() {
                log::debug!(id = id.as_str(), pid = pid; "the logging binary has ended");
            } else {
                log::warn!(id = id.as_str(), pid = pid; "the logging binary has ended with {}", end.status);
            }
            return;
        }
        asked = finished => asked,
    };
    // Dropped: it was sent SIGTERM already.
    if asked.is_ok() {
        if ends_within(&exit, GRACE).await {
            return;
        }
        signal(pid, &exit, libc::SIGTERM);
    }
    if !ends_within(&exit, TERM).await {
        log::warn!(id = id.as_str(), pid = pid; "failed to wait for shim logger process to exit, killing");
        signal(pid, &exit, libc::SIGKILL);
    }
}

async fn ends_within(exit: &ExitWatch, limit: Duration) -> bool {
    timeout(limit, exit.clone().wait()).await.is_ok()
}

fn signal(pid: u32, exit: &ExitWatch, signal: i32) {
    if let Err(err) = exit.signal(pid, signal) {
        log::warn!(pid = pid; "failed to signal a logging binary: {err}");
    }
}
