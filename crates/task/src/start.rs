// SPDX-License-Identifier: Apache-2.0
//! Start, the same for init and exec: *hold* the exits of the process, spawn, *announce* the start,
//! *release* a held exit.
//!
//! Races killed here: a process that ends before its pid is known (the expectation keeps its
//! exit), one that ends before its start event is queued (the lifecycle holds its exit), an exec
//! that starts while init dies (the exit gate refuses it or waits for it).

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use wedge_oci::{ChildIo, ConsoleSocket};
use wedge_reaper::{ExitWatch, Expectation};
use wedge_setns::Started;
use wedge_stdio::{Context, Prepared};
use wedge_sys::PidFd;

use crate::commands::Command;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::lifecycle::{Kind, Op};
use crate::lock;
use crate::process::Process;
use crate::task::Task;

impl Task {
    /// Starts the init or an exec. Returns its pid.
    pub(crate) async fn start(self: &Arc<Self>, exec_id: &str) -> Result<u32> {
        let process = self.process(exec_id)?;
        let _turn = process.turn.lock().await;
        let starting = Starting::hold(self, &process)?;
        let pid = match process.kind {
            Kind::Init => self.start_init().await?,
            Kind::Exec => self.start_exec(&process).await?,
        };
        self.announce(&process, pid);
        starting.release();
        Ok(pid)
    }

    async fn start_init(self: &Arc<Self>) -> Result<u32> {
        let restore = lock(&self.restore).take();
        if let Some(restore) = restore {
            return self.restore_init(restore).await;
        }
        let pid = self.init.pid();
        // Before the init is released: it may run out of memory at once.
        self.watch_memory(pid);
        self.command(Command::Start).await?;
        Ok(pid)
    }

    fn watch_memory(&self, pid: u32) {
        let cgroup = lock(&self.cgroup).clone();
        lock(&self.oom).arm(&self.id, pid, cgroup);
    }

    /// The runtime's restore makes the init and runs it, so only now is there a cgroup to watch.
    async fn restore_init(self: &Arc<Self>, restore: Restore) -> Result<u32> {
        let Restore { image_path, mut spawning } = restore;
        let expectation = self.reaper.expect();
        let io = spawning.child_io();
        self.runtime.restore(&image_path, io, spawning.console.as_ref()).await?;
        let pid = self.runtime.init_pid().await?;
        spawning.finish(self, &self.init, expectation, pid).await?;
        self.find_surroundings(pid);
        self.watch_memory(pid);
        Ok(pid)
    }

    async fn start_exec(self: &Arc<Self>, process: &Arc<Process>) -> Result<u32> {
        let mut spawning = Spawning::new(self, process).await?;
        let io = spawning.child_io();
        match self.exec_natively(process, &io).await? {
            Some(started) => {
                // The copies see the end of the output only when these are closed.
                drop(io);
                let Started { pid, exit, pidfd, console } = started;
                spawning.attach(self, process, (pid, exit, pidfd), console)
            }
            None => self.exec_by_runtime(process, spawning, io).await,
        }
    }

    async fn exec_by_runtime(
        self: &Arc<Self>,
        process: &Arc<Process>,
        mut spawning: Spawning,
        io: ChildIo,
    ) -> Result<u32> {
        spawning.bind_console(process)?;
        process.pid_file.store(true, Ordering::Relaxed);
        let expectation = self.reaper.expect();
        let ran = self.runtime.exec(&process.id, &process.spec, io, spawning.console.as_ref());
        if let Err(err) = ran.await {
            if err.is_cut_short() {
                self.kill_stray(&process.id, expectation).await;
            }
            return Err(err.into());
        }
        let pid = self.runtime.exec_pid(&process.id).await?;
        spawning.finish(self, process, expectation, pid).await
    }

    /// Ends the process that a runtime may have started before it was killed. One it has not named
    /// yet still waits for it, and ends by itself.
    async fn kill_stray(&self, exec_id: &str, expectation: Expectation) {
        let Ok(pid) = self.runtime.exec_pid(exec_id).await else { return };
        let claimed = expectation.claim(pid).map(|(_, pidfd)| pidfd);
        let killed =
            claimed.and_then(|pidfd| pidfd.map_or(Ok(()), |p| p.send_signal(libc::SIGKILL)));
        if let Err(err) = killed {
            log::debug!(id = self.id.as_str(), pid = pid; "nothing to kill: {err}");
        }
    }

    fn announce(&self, process: &Process, pid: u32) {
        let container_id = self.id.clone();
        self.events.send(match process.kind {
            Kind::Init => Event::Start { container_id, pid },
            Kind::Exec => Event::ExecStarted { container_id, exec_id: process.id.clone(), pid },
        });
        if process.kind == Kind::Init {
            lock(&self.oom).report(&self.events);
        }
    }
}

/// The permit of a start under way. Dropped without [`Starting::release`], it leaves the state as
/// it was before.
struct Starting<'a> {
    task: &'a Arc<Task>,
    process: &'a Arc<Process>,
    released: bool,
}

impl<'a> Starting<'a> {
    fn hold(task: &'a Arc<Task>, process: &'a Arc<Process>) -> Result<Starting<'a>> {
        process.lifecycle().check(Op::Start)?;
        if process.kind == Kind::Exec {
            let begun = !task.init.reaped() && lock(&task.exit_gate).exec_begins();
            if !begun {
                return Err(Error::InitEnded { id: task.id.clone() });
            }
            process.pending();
        }
        // Allowed: checked above, and only the holder of the turn changes that.
        process.lifecycle().begin(Op::Start)?;
        Ok(Starting { task, process, released: false })
    }

    fn release(mut self) {
        self.released = true;
        let early = self.process.lifecycle().commit();
        if let Some(exit) = early {
            self.task.settle_later(self.process, exit);
        }
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        let early = self.process.lifecycle().abort();
        match (self.process.kind, early) {
            // The OCI runtime failed and killed its init: an exit without a start.
            (Kind::Init, Some(exit)) => self.task.settle_later(self.process, exit),
            (Kind::Init, None) => {}
            (Kind::Exec, _) => {
                self.task.remove_pid_file(self.process);
                self.process.close_streams();
                self.process.clear_live();
                self.process.abandon();
                self.task.exec_ended();
            }
        }
    }
}

/// An init that is to be made from a checkpoint: its streams are open since Create.
#[derive(Debug)]
pub(crate) struct Restore {
    pub(crate) image_path: PathBuf,
    pub(crate) spawning: Spawning,
}

/// What must exist before the OCI runtime makes a process: the streams, and for a terminal the
/// console socket. The same for create, exec and restore.
#[derive(Debug)]
pub(crate) struct Spawning {
    streams: Prepared,
    pub(crate) console: Option<ConsoleSocket>,
}

impl Spawning {
    /// Opens the streams of an init or exec.
    pub(crate) async fn new(task: &Task, process: &Process) -> Result<Spawning> {
        // Go opens what a terminal is copied to only when there is one; this is its text.
        let step = match process.stdio.terminal {
            true => "failed to start console copy",
            false => "failed to create init process I/O",
        };
        let context = Context {
            owner: task.owner,
            id: &process.id,
            namespace: &task.namespace,
            reaper: &task.reaper,
            loggers: &task.settings.loggers,
        };
        let streams = process.stdio.prepare(&context).await;
        let streams = streams.map_err(|source| Error::Stdio { step, source })?;
        Ok(Spawning { streams, console: None })
    }

    /// The socket over which the OCI runtime sends a terminal, if there is to be one.
    pub(crate) fn bind_console(&mut self, process: &Process) -> Result<()> {
        let step = match process.kind {
            Kind::Init => "failed to create OCI runtime console socket",
            Kind::Exec => "failed to create runc console socket",
        };
        let console = process.stdio.terminal.then(ConsoleSocket::bind).transpose();
        self.console = console.map_err(|source| Error::ConsoleSocket { step, source })?;
        Ok(())
    }

    /// The ends for the runtime command.
    pub(crate) fn child_io(&mut self) -> ChildIo {
        let (stdin, stdout, stderr) = self.streams.take_child();
        ChildIo { stdin, stdout, stderr }
    }

    /// The runtime has made process `pid`: claims it and connects its streams. On an error the
    /// process is killed and its exit never published.
    pub(crate) async fn finish(
        mut self,
        task: &Arc<Task>,
        process: &Arc<Process>,
        expectation: Expectation,
        pid: u32,
    ) -> Result<u32> {
        let (exit, pidfd) =
            expectation.claim(pid).map_err(|source| Error::Watch { pid, source })?;
        process.set_live(pid, pidfd, exit.clone());
        let console = match self.console.take() {
            Some(console) => console.receive().await.map(Some),
            None => Ok(None),
        };
        match console {
            Ok(console) => self.connect(task, process, exit, console).map(|()| pid),
            Err(err) => {
                kill(task, process);
                Err(err.into())
            }
        }
    }

    /// As [`Spawning::finish`], for a process that is claimed and whose terminal is here.
    fn attach(
        self,
        task: &Arc<Task>,
        process: &Arc<Process>,
        (pid, exit, pidfd): (u32, ExitWatch, Option<PidFd>),
        console: Option<OwnedFd>,
    ) -> Result<u32> {
        process.set_live(pid, pidfd, exit.clone());
        self.connect(task, process, exit, console).map(|()| pid)
    }

    fn connect(
        self,
        task: &Arc<Task>,
        process: &Arc<Process>,
        exit: ExitWatch,
        console: Option<OwnedFd>,
    ) -> Result<()> {
        let step = match console {
            Some(_) => "failed to start console copy",
            None => "failed to start io pipe copy",
        };
        match self.streams.start(console) {
            Ok(streams) => {
                process.set_streams(streams);
                task.watch_exit(process, exit);
                Ok(())
            }
            Err(source) => {
                kill(task, process);
                Err(Error::Stdio { step, source })
            }
        }
    }
}

/// Ends a process that exists but cannot be used.
fn kill(task: &Task, process: &Process) {
    if let Err(err) = process.signal(libc::SIGKILL) {
        log::debug!(id = task.id.as_str(), pid = process.pid(); "nothing to kill: {err}");
    }
}
