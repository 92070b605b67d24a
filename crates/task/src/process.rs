// SPDX-License-Identifier: Apache-2.0
//! One init or exec process.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use wedge_reaper::{Exit, ExitWatch};
use wedge_stdio::{Copier, Request};
use wedge_sys::PidFd;

use crate::error::{Error, Result};
use crate::lifecycle::{Kind, Lifecycle, Op, Status};
use crate::lock;

/// What `Wait` waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Not ended, or not started yet.
    Pending,
    /// Ended, and everybody may know.
    Exited(Exit),
    /// Its start failed or it was deleted without one: nobody must wait for an exit.
    Abandoned,
}

/// A process that exists or existed: its pid is known.
#[derive(Debug)]
struct Live {
    pid: u32,
    /// Gone once the process was reaped, or when it was reaped before its pid was known.
    pidfd: Option<Arc<PidFd>>,
    exit: ExitWatch,
}

/// The running copies, once the process exists.
#[derive(Debug, Default)]
struct Streams {
    copier: Option<Arc<Copier>>,
    /// CloseIO was called. It can come before the copies run: the client may be at the end of its
    /// input while the OCI runtime still starts the process.
    stdin_closed: bool,
}

/// One init or exec process; both kinds live alike.
#[derive(Debug)]
pub(crate) struct Process {
    /// The container's id for the init, else the exec's.
    pub(crate) id: String,
    pub(crate) kind: Kind,
    /// The streams as the client asked for them.
    pub(crate) stdio: Request,
    /// The OCI process as JSON; empty for the init, which config.json describes.
    pub(crate) spec: Vec<u8>,
    /// The OCI runtime was told to write this process's pid into a file.
    pub(crate) pid_file: AtomicBool,
    /// Queues Start, Delete, Pause, Resume, Update and Checkpoint of this process.
    pub(crate) turn: tokio::sync::Mutex<()>,
    lifecycle: Mutex<Lifecycle>,
    live: Mutex<Option<Live>>,
    streams: Mutex<Streams>,
    outcome: watch::Sender<Outcome>,
}

/// What State answers.
#[derive(Debug, Clone)]
pub struct ProcessState {
    /// The container's id for the init, else the exec's.
    pub id: String,
    /// The container's bundle.
    pub bundle: PathBuf,
    /// The pid, 0 when there is none yet.
    pub pid: u32,
    /// The state.
    pub status: Status,
    /// The streams as the client asked for them.
    pub stdio: Request,
    /// How it ended, once it has.
    pub exit: Option<Exit>,
}

impl Process {
    pub(crate) fn init(id: &str, stdio: Request) -> Process {
        Process::new(id, Kind::Init, stdio, Vec::new(), Lifecycle::creating())
    }

    pub(crate) fn exec(id: &str, stdio: Request, spec: Vec<u8>) -> Process {
        Process::new(id, Kind::Exec, stdio, spec, Lifecycle::added())
    }

    fn new(id: &str, kind: Kind, stdio: Request, spec: Vec<u8>, lifecycle: Lifecycle) -> Process {
        Process {
            id: id.to_owned(),
            kind,
            stdio,
            spec,
            pid_file: AtomicBool::new(kind == Kind::Init),
            turn: tokio::sync::Mutex::new(()),
            lifecycle: Mutex::new(lifecycle),
            live: Mutex::new(None),
            streams: Mutex::default(),
            outcome: watch::Sender::new(Outcome::Pending),
        }
    }

    pub(crate) fn lifecycle(&self) -> MutexGuard<'_, Lifecycle> {
        lock(&self.lifecycle)
    }

    pub(crate) fn set_live(&self, pid: u32, pidfd: Option<PidFd>, exit: ExitWatch) {
        *lock(&self.live) = Some(Live { pid, pidfd: pidfd.map(Arc::new), exit });
    }

    /// The start failed after the process had appeared, and it was killed.
    pub(crate) fn clear_live(&self) {
        *lock(&self.live) = None;
    }

    /// The pid, 0 when there is none yet, as containerd's API has it.
    pub(crate) fn pid(&self) -> u32 {
        lock(&self.live).as_ref().map_or(0, |live| live.pid)
    }

    /// Whether the process was reaped, whether or not its exit has been published (I5).
    pub(crate) fn reaped(&self) -> bool {
        lock(&self.live).as_ref().is_some_and(|live| live.exit.peek().is_some())
    }

    /// The process itself, unless it was reaped.
    pub(crate) fn pidfd(&self) -> Option<Arc<PidFd>> {
        lock(&self.live).as_ref().and_then(|live| live.pidfd.clone())
    }

    /// Signals the process itself, never another one that got its pid.
    pub(crate) fn signal(&self, signal: i32) -> Result<()> {
        let Some(pidfd) = self.pidfd() else {
            return Err(Error::Gone("process already finished".to_owned()));
        };
        match pidfd.send_signal(signal) {
            Ok(()) => Ok(()),
            Err(err) if err.raw_os_error() == Some(libc::ESRCH) => {
                Err(Error::Gone("exec kill error: process already finished".to_owned()))
            }
            Err(source) => Err(Error::Signal { source }),
        }
    }

    pub(crate) fn streams(&self) -> Option<Arc<Copier>> {
        lock(&self.streams).copier.clone()
    }

    pub(crate) fn set_streams(&self, copier: Copier) {
        let mut streams = lock(&self.streams);
        if streams.stdin_closed {
            copier.close_stdin();
        }
        streams.copier = Some(Arc::new(copier));
    }

    /// Waits until its client has taken what the process has written, but not for longer.
    pub(crate) async fn output_taken(&self, limit: Duration) {
        if let Some(streams) = self.streams() {
            streams.taken(limit).await;
        }
    }

    /// Ends the copies and closes every descriptor of theirs.
    pub(crate) fn close_streams(&self) {
        if let Some(copier) = self.take_streams() {
            copier.close();
        }
    }

    /// As [`Process::close_streams`], and waits until a logging binary has ended or was killed.
    pub(crate) async fn end_streams(&self) {
        if let Some(copier) = self.take_streams() {
            copier.end().await;
        }
    }

    pub(crate) fn take_streams(&self) -> Option<Arc<Copier>> {
        lock(&self.streams).copier.take()
    }

    /// Drops our own writer of standard input, now or as soon as there is one.
    pub(crate) fn close_stdin(&self) {
        let mut streams = lock(&self.streams);
        streams.stdin_closed = true;
        if let Some(copier) = &streams.copier {
            copier.close_stdin();
        }
    }

    /// Publishes the exit to State and Wait. Returns whether it was news.
    pub(crate) fn stopped(&self, exit: Exit) -> bool {
        let news = self.lifecycle().stopped(exit);
        if let Some(live) = lock(&self.live).as_mut() {
            live.pidfd = None;
        }
        if let Some(streams) = self.streams() {
            streams.process_exited();
        }
        if news {
            self.outcome.send_replace(Outcome::Exited(exit));
        }
        news
    }

    /// A start is under way again: waiters wait for its exit.
    pub(crate) fn pending(&self) {
        self.outcome.send_if_modified(|outcome| {
            let abandoned = *outcome == Outcome::Abandoned;
            if abandoned {
                *outcome = Outcome::Pending;
            }
            abandoned
        });
    }

    /// There will be no exit: lets waiters go.
    pub(crate) fn abandon(&self) {
        self.outcome.send_if_modified(|outcome| {
            let pending = *outcome == Outcome::Pending;
            if pending {
                *outcome = Outcome::Abandoned;
            }
            pending
        });
    }

    /// Waits for the published exit; `None` when there will be none.
    pub(crate) async fn wait(&self) -> Option<Exit> {
        let mut outcome = self.outcome.subscribe();
        match outcome.wait_for(|outcome| *outcome != Outcome::Pending).await.map(|found| *found) {
            Ok(Outcome::Exited(exit)) => Some(exit),
            Ok(Outcome::Pending | Outcome::Abandoned) | Err(_) => None,
        }
    }

    pub(crate) fn resize(&self, width: u32, height: u32) -> Result<()> {
        self.lifecycle().check(Op::Resize)?;
        match self.streams() {
            Some(streams) => {
                streams.resize(width, height).map_err(|source| Error::Resize { source })
            }
            None => Ok(()),
        }
    }
}
