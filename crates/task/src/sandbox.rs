// SPDX-License-Identifier: Apache-2.0
//! The tasks this shim serves: one container, or all of a pod.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use wedge_cgroups::Stats;
use wedge_oci::Checkpoint;
use wedge_reaper::{Exit, Reaper};

use crate::create::{self, CreateRequest};
use crate::delete::Deleted;
use crate::error::{Error, Result};
use crate::event::EventSink;
use crate::process::ProcessState;
use crate::remains::{self, Namespaces};
use crate::settings::{ExecPath, Settings};
use crate::task::{ExecRequest, Shared, Task};
use crate::{id, lock};

/// How long a shim that was told to shut down while it had containers stays once the last is
/// gone: the daemon still wants to call Shutdown, and takes a shim that vanishes for a dead one.
const LINGER: Duration = Duration::from_secs(10);

/// A container id in use.
#[derive(Debug)]
enum Slot {
    /// Its Create is under way: the id is taken, but nobody can reach it yet. Tells what comes of it:
    /// the task, or the end of the channel.
    Reserved(watch::Receiver<Option<Arc<Task>>>),
    /// It exists.
    Ready(Arc<Task>),
}

impl Slot {
    fn namespaces(&self) -> Option<Namespaces> {
        match self {
            Slot::Reserved(_) => None,
            Slot::Ready(task) => *lock(&task.namespaces),
        }
    }
}

#[derive(Debug, Default)]
struct Tasks {
    slots: HashMap<String, Slot>,
    shutdown_asked: bool,
    closed: bool,
}

enum Phase {
    Open,
    Lingering,
    Closed,
}

impl Tasks {
    fn phase(&self) -> Phase {
        match (self.closed, self.shutdown_asked && self.slots.is_empty()) {
            (true, _) => Phase::Closed,
            (false, true) => Phase::Lingering,
            (false, false) => Phase::Open,
        }
    }
}

/// The tasks this shim serves. The map's lock is held for look-ups only, so a container whose
/// create hangs does not slow down another (invariant I8).
#[derive(Debug)]
pub struct Sandbox {
    shared: Shared,
    tasks: Mutex<Tasks>,
    /// Told whenever `tasks` changes in a way that may end the shim.
    changed: watch::Sender<()>,
}

impl Sandbox {
    /// A shim without containers. `namespace` is containerd's; the settings hold for all there
    /// will be.
    pub fn new(
        namespace: String,
        reaper: Reaper,
        events: EventSink,
        settings: Settings,
    ) -> Arc<Sandbox> {
        let (changed, _) = watch::channel(());
        let (settings, node) = (Arc::new(settings), Arc::default());
        let shared = Shared { namespace, reaper, events, settings, node };
        Arc::new(Sandbox { shared, tasks: Mutex::default(), changed })
    }

    /// Creates a container. Returns its init's pid.
    ///
    /// # Errors
    /// As the Go shim; nothing is left behind.
    pub async fn create(&self, request: CreateRequest) -> Result<u32> {
        id::validate(&request.id)?;
        let reservation = Reservation::take(self, &request.id)?;
        let task = create::create(request, self.shared.clone()).await?;
        let pid = task.init.pid();
        reservation.fill(task);
        Ok(pid)
    }

    /// Starts a container's init, or one of its execs when `exec_id` is not empty. Returns the pid.
    ///
    /// # Errors
    /// As the Go shim; the state is as before.
    pub async fn start(&self, id: &str, exec_id: &str) -> Result<u32> {
        self.task(id)?.start(exec_id).await
    }

    /// Deletes a container or an exec. Waits for a Create under way, whose client may have given up:
    /// nobody would delete later what comes of it.
    ///
    /// # Errors
    /// As the Go shim; it may be retried.
    pub async fn delete(&self, id: &str, exec_id: &str) -> Result<Deleted> {
        let task = self.created(id).await?;
        let deleted = task.delete(exec_id).await?;
        if exec_id.is_empty() {
            lock(&self.tasks).slots.remove(id);
            self.changed.send_replace(());
            self.tell_what_remains(&task);
        }
        Ok(deleted)
    }

    fn tell_what_remains(&self, gone: &Task) {
        let Some(namespaces) = *lock(&gone.namespaces) else { return };
        let others = lock(&self.tasks).slots.values().filter_map(Slot::namespaces).collect();
        remains::tell(&gone.id, namespaces, others);
    }

    /// Registers an exec.
    ///
    /// # Errors
    /// As the Go shim.
    pub fn exec(&self, request: ExecRequest) -> Result<()> {
        self.task(&request.id)?.add_exec(request)
    }

    /// Signals a process, or with `all` every process of the container.
    ///
    /// # Errors
    /// As the Go shim.
    pub async fn kill(&self, id: &str, exec_id: &str, signal: u32, all: bool) -> Result<()> {
        self.task(id)?.kill(exec_id, signal, all).await
    }

    /// What a client sees of a process.
    ///
    /// # Errors
    /// No such process.
    pub fn state(&self, id: &str, exec_id: &str) -> Result<ProcessState> {
        self.task(id)?.state(exec_id)
    }

    /// Waits until a process has ended. `None` when its start failed or it was deleted without one.
    ///
    /// # Errors
    /// No such process.
    pub async fn wait(&self, id: &str, exec_id: &str) -> Result<Option<Exit>> {
        let process = self.task(id)?.process(exec_id)?;
        Ok(process.wait().await)
    }

    /// The pids of a container, each with the exec it is the first process of.
    ///
    /// # Errors
    /// No such container, or the OCI runtime failed.
    pub async fn pids(&self, id: &str) -> Result<Vec<(u32, Option<String>)>> {
        self.task(id)?.pids().await
    }

    /// Drops the shim's own writer of a process's standard input.
    ///
    /// # Errors
    /// No such process.
    pub fn close_io(&self, id: &str, exec_id: &str) -> Result<()> {
        self.task(id)?.process(exec_id)?.close_stdin();
        Ok(())
    }

    /// Sets the size of a process's terminal, in characters.
    ///
    /// # Errors
    /// No such process, or it has stopped.
    pub fn resize_pty(&self, id: &str, exec_id: &str, width: u32, height: u32) -> Result<()> {
        self.task(id)?.process(exec_id)?.resize(width, height)
    }

    /// Freezes a container.
    ///
    /// # Errors
    /// As the Go shim.
    pub async fn pause(&self, id: &str) -> Result<()> {
        self.task(id)?.pause().await
    }

    /// Thaws a container.
    ///
    /// # Errors
    /// As the Go shim.
    pub async fn resume(&self, id: &str) -> Result<()> {
        self.task(id)?.resume().await
    }

    /// What a container's cgroups have counted; when they are gone, 0.
    ///
    /// # Errors
    /// No such container, or its cgroups were not found when it was created.
    pub fn stats(&self, id: &str) -> Result<Stats> {
        self.task(id)?.stats()
    }

    /// Changes a container's limits to `resources`, JSON of an OCI `LinuxResources`.
    ///
    /// # Errors
    /// As the Go shim.
    pub async fn update(&self, id: &str, resources: &[u8]) -> Result<()> {
        self.task(id)?.update(resources).await
    }

    /// Saves a container's processes as images.
    ///
    /// # Errors
    /// As the Go shim.
    pub async fn checkpoint(&self, id: &str, checkpoint: &Checkpoint) -> Result<()> {
        self.task(id)?.checkpoint(checkpoint).await
    }

    /// The pid of a container's init, 0 when there is no such container.
    pub fn connect(&self, id: &str) -> u32 {
        self.task(id).map_or(0, |task| task.init.pid())
    }

    /// Asks the shim to end. With containers left it stays, and remembers.
    pub fn shutdown(&self) {
        {
            let mut tasks = lock(&self.tasks);
            tasks.closed |= tasks.slots.is_empty();
            tasks.shutdown_asked = true;
        }
        self.changed.send_replace(());
    }

    /// Resolves when the shim should end.
    pub async fn closed(&self) {
        let mut changed = self.changed.subscribe();
        loop {
            let phase = lock(&self.tasks).phase();
            let change = async {
                // Never fails: the sender lives in `self`.
                changed.changed().await.is_ok()
            };
            match phase {
                Phase::Closed => return,
                Phase::Open => {
                    change.await;
                }
                Phase::Lingering => {
                    if tokio::time::timeout(LINGER, change).await.is_err() {
                        self.shutdown();
                    }
                }
            }
        }
    }

    /// A few lines on every container, for an operator who sent SIGUSR1.
    pub fn dump(&self) -> String {
        let tasks = lock(&self.tasks);
        let Shared { reaper, settings, node, .. } = &self.shared;
        let (claimed, unclaimed, open) = reaper.counts();
        let mut text = format!("{} containers; reaper: ", tasks.slots.len());
        // Writing to a String cannot fail.
        let mut line = |args: std::fmt::Arguments<'_>| text.write_fmt(args).unwrap_or_default();
        line(format_args!("{claimed} watched, {unclaimed} unclaimed, {open} starts under way"));
        line(format_args!("; exec {}, {}", settings.exec, node));
        line(format_args!("; commands {}", settings.commands));
        for (id, slot) in &tasks.slots {
            match slot {
                Slot::Reserved(_) => line(format_args!("\n{id}: being created")),
                Slot::Ready(task) => {
                    let (status, pid) = (task.init.lifecycle().status(), task.init.pid());
                    let (execs, running) = (task.exec_count(), lock(&task.exit_gate).execs());
                    line(format_args!(
                        "\n{id}: {status:?}, pid {pid}, {execs} execs, {running} running{}",
                        lock(&task.oom)
                    ));
                    if let Some(reason) = task.commands.reason() {
                        line(format_args!(", commands by the OCI runtime: {reason}"));
                    }
                    if settings.exec == ExecPath::Auto
                        && let Some(reason) = task.native.reason()
                    {
                        line(format_args!(", execs by the OCI runtime: {reason}"));
                    }
                }
            }
        }
        text
    }

    fn task(&self, id: &str) -> Result<Arc<Task>> {
        match lock(&self.tasks).slots.get(id) {
            Some(Slot::Ready(task)) => Ok(task.clone()),
            Some(Slot::Reserved(_)) | None => Err(Error::NoContainer),
        }
    }

    /// The task, when its Create has succeeded.
    async fn created(&self, id: &str) -> Result<Arc<Task>> {
        let mut outcome = match lock(&self.tasks).slots.get(id) {
            Some(Slot::Ready(task)) => return Ok(task.clone()),
            Some(Slot::Reserved(outcome)) => outcome.clone(),
            None => return Err(Error::NoContainer),
        };
        let created = outcome.wait_for(Option::is_some).await;
        created.ok().and_then(|task| task.clone()).ok_or(Error::NoContainer)
    }
}

/// An id that a Create under way has taken; dropped, it is free again.
struct Reservation<'a> {
    sandbox: &'a Sandbox,
    id: Option<String>,
    outcome: watch::Sender<Option<Arc<Task>>>,
}

impl<'a> Reservation<'a> {
    fn take(sandbox: &'a Sandbox, id: &str) -> Result<Reservation<'a>> {
        let mut tasks = lock(&sandbox.tasks);
        if tasks.closed {
            return Err(Error::ShuttingDown);
        }
        if tasks.slots.contains_key(id) {
            return Err(Error::Exists { id: id.to_owned() });
        }
        let (outcome, receiver) = watch::channel(None);
        tasks.slots.insert(id.to_owned(), Slot::Reserved(receiver));
        Ok(Reservation { sandbox, id: Some(id.to_owned()), outcome })
    }

    fn fill(mut self, task: Arc<Task>) {
        if let Some(id) = self.id.take() {
            lock(&self.sandbox.tasks).slots.insert(id, Slot::Ready(task.clone()));
            self.outcome.send_replace(Some(task));
        }
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            lock(&self.sandbox.tasks).slots.remove(&id);
            self.sandbox.changed.send_replace(());
        }
    }
}
