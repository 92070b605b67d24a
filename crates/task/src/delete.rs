// SPDX-License-Identifier: Apache-2.0
//! Delete: drain the output, remove the container from the OCI runtime's state, unmount, close.

use std::sync::atomic::Ordering;
use std::time::Duration;

use wedge_reaper::Exit;

use crate::commands::Command;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::lifecycle::{Kind, Op};
use crate::lock;
use crate::process::Process;
use crate::task::Task;

/// How long a killed init may take to be reaped.
const REAP: Duration = Duration::from_secs(10);

/// What Delete answers.
#[derive(Debug, Clone, Copy)]
pub struct Deleted {
    /// The pid the process had, 0 when it never had one.
    pub pid: u32,
    /// How it ended; `None` when it was never started.
    pub exit: Option<Exit>,
}

impl Task {
    /// Deletes the init, and with it the container, or one exec. On an error it can be retried.
    pub(crate) async fn delete(&self, exec_id: &str) -> Result<Deleted> {
        let process = self.process(exec_id)?;
        let _turn = process.turn.lock().await;
        process.lifecycle().begin(Op::Delete)?;
        let deleting = Deleting { process: &process, committed: false };
        match process.kind {
            Kind::Init => self.delete_init().await?,
            Kind::Exec => self.delete_exec(&process).await,
        }
        let exit = deleting.commit();
        process.abandon();
        let pid = process.pid();
        match process.kind {
            Kind::Exec => self.remove_exec(&process.id),
            Kind::Init => {
                self.forget_execs().await;
                self.events.send(Event::Delete { container_id: self.id.clone(), pid, exit });
            }
        }
        Ok(Deleted { pid, exit })
    }

    async fn delete_init(&self) -> Result<()> {
        let ended = self.init.lifecycle().exit().is_some();
        if ended {
            self.drain(&self.init).await;
        } else {
            self.kill_created().await;
        }
        self.kills_are_answered().await;
        self.command(Command::Delete).await?;
        self.init.end_streams().await;
        if self.rootfs_mounted {
            wedge_oci::unmount_recursive(&self.reaper, &self.bundle.rootfs())
                .await
                .map_err(|source| Error::Unmount { source })?;
        }
        lock(&self.oom).finish(None);
        Ok(())
    }

    /// The exit that a kill leads to may be known before the OCI runtime has returned from the kill.
    /// containerd deletes the container then, and closes the connection when that is answered: who
    /// called Kill would be told that it failed. Kills that come meanwhile are waited for too.
    pub(crate) async fn kills_are_answered(&self) {
        // It fails when the sender is gone, which is ours.
        self.kills.subscribe().wait_for(|count| *count == 0).await.ok();
    }

    /// Ends an init that was never started. Its output is only what the OCI runtime holds open, so
    /// there is nothing to drain; its exit is published like any other.
    async fn kill_created(&self) {
        // Neither is there one before a restore.
        if self.init.pid() == 0 {
            lock(&self.restore).take();
            return;
        }
        if let Err(err) = self.init.signal(libc::SIGKILL) {
            log::debug!(id = self.id.as_str(); "nothing to kill: {err}");
        }
        if tokio::time::timeout(REAP, self.init.wait()).await.is_err() {
            log::warn!(id = self.id.as_str(); "the created init did not end within {REAP:?}");
        }
    }

    async fn delete_exec(&self, process: &Process) {
        self.drain(process).await;
        process.end_streams().await;
        self.remove_pid_file(process);
    }

    /// Removes the pid file of a process that is gone, or whose start failed half-way.
    pub(crate) fn remove_pid_file(&self, process: &Process) {
        if !process.pid_file.load(Ordering::Relaxed) {
            return;
        }
        let path = match process.kind {
            Kind::Init => self.bundle.init_pid(),
            Kind::Exec => self.bundle.exec_pid(&process.id),
        };
        if let Err(err) = self.bundle.remove_pid(&path) {
            log::warn!(id = self.id.as_str(); "failed to remove a pid file: {err}");
        }
    }

    async fn drain(&self, process: &Process) {
        let Some(streams) = process.streams() else { return };
        if !streams.drain(self.settings.output_drain).await {
            let kind = if process.kind == Kind::Init { "init" } else { "exec" };
            log::warn!(id = self.id.as_str(); "failed to drain {kind} process {} io", process.id);
        }
    }

    async fn forget_execs(&self) {
        let mut streams = Vec::new();
        for exec in self.take_execs() {
            streams.extend(exec.take_streams());
            exec.abandon();
        }
        // All are closed before one is waited for.
        for copier in &streams {
            copier.close();
        }
        for copier in streams {
            copier.end().await;
        }
    }
}

/// The permit of a delete under way; dropped, it makes the delete retryable.
struct Deleting<'a> {
    process: &'a Process,
    committed: bool,
}

impl Deleting<'_> {
    fn commit(mut self) -> Option<Exit> {
        self.committed = true;
        let mut lifecycle = self.process.lifecycle();
        // Nothing is held outside a create or start; the exit is in the lifecycle by now.
        let held = lifecycle.commit();
        lifecycle.exit().or(held)
    }
}

impl Drop for Deleting<'_> {
    fn drop(&mut self) {
        if !self.committed {
            let held = self.process.lifecycle().abort();
            debug_assert_eq!(held, None);
        }
    }
}
