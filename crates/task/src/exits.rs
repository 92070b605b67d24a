// SPDX-License-Identifier: Apache-2.0
//! An exit's way up: reaper → lifecycle → exit gate → state, Wait and event.

use std::sync::Arc;
use std::time::Duration;

use wedge_reaper::{Exit, ExitStatus, ExitWatch};

use crate::commands::Command;
use crate::event::Event;
use crate::lifecycle::{Kind, Seen};
use crate::lock;
use crate::process::Process;
use crate::task::Task;

/// How long init's exit waits for execs that do not end. With a pid namespace of its own the
/// kernel has killed them with init; one in uninterruptible sleep must not keep a pod terminating.
const EXECS_FOLLOW: Duration = Duration::from_secs(30);

/// How long an exit may wait for the client to take what its process has written. A client that
/// hears of the exit gives up outputs it has not got to open yet (containerd's `Task.Delete`), and
/// on a busy node an exec ends long before: its output would be lost.
const OUTPUT_TAKEN: Duration = Duration::from_millis(250);

impl Task {
    /// Follows a process to its end.
    pub(crate) fn watch_exit(self: &Arc<Self>, process: &Arc<Process>, mut exit: ExitWatch) {
        let (task, process) = (self.clone(), process.clone());
        #[expect(clippy::disallowed_methods, reason = "ends with the process it watches")]
        tokio::spawn(async move {
            let exit = exit.wait().await;
            let seen = process.lifecycle().exited(exit);
            match seen {
                Seen::Now => task.settle(&process, exit).await,
                Seen::Held | Seen::Known => {}
            }
        });
    }

    /// As [`Task::settle`], without making the caller wait for the commands it may run.
    pub(crate) fn settle_later(self: &Arc<Self>, process: &Arc<Process>, exit: Exit) {
        let (task, process) = (self.clone(), process.clone());
        #[expect(clippy::disallowed_methods, reason = "bounded by the limits of its commands")]
        tokio::spawn(async move { task.settle(&process, exit).await });
    }

    /// Deals with an exit that may be published as soon as the order of exits allows it.
    async fn settle(self: &Arc<Self>, process: &Arc<Process>, exit: Exit) {
        match process.kind {
            Kind::Exec => {
                process.output_taken(OUTPUT_TAKEN).await;
                self.publish(process, exit);
                self.exec_ended();
            }
            Kind::Init => self.init_ended(exit).await,
        }
    }

    /// An exec is over, or its start failed; init's exit may have waited for it.
    pub(crate) fn exec_ended(&self) {
        let released = lock(&self.exit_gate).exec_ended();
        if let Some(exit) = released {
            self.publish(&self.init, exit);
        }
    }

    async fn init_ended(self: &Arc<Self>, exit: Exit) {
        // From here on no exec starts, whatever the commands below take.
        lock(&self.exit_gate).close();
        self.kill_the_rest().await;
        self.init.output_taken(OUTPUT_TAKEN).await;
        let passed = lock(&self.exit_gate).release_init(exit);
        match passed {
            Some(exit) => self.publish(&self.init, exit),
            None => self.give_up_later(),
        }
    }

    /// Ends what init's end did not: a frozen container, and processes of a shared pid namespace.
    async fn kill_the_rest(&self) {
        if self.init.lifecycle().paused() {
            self.thaw().await;
        }
        if self.shared_pid_namespace
            && let Err(err) = self.command(Command::Kill { signal: libc::SIGKILL, all: true }).await
        {
            log::info!(id = self.id.as_str(); "failed to kill init's children: {err}");
        }
    }

    /// Thaws what nobody else will, of an init that has ended for instance: it could not be deleted.
    pub(crate) async fn thaw(&self) {
        if let Err(err) = self.command(Command::Resume).await {
            log::warn!(id = self.id.as_str(); "failed to thaw a container that is not to stay frozen: {err}");
        }
    }

    fn give_up_later(self: &Arc<Self>) {
        let task = self.clone();
        #[expect(clippy::disallowed_methods, reason = "ends after a fixed time")]
        tokio::spawn(async move {
            tokio::time::sleep(EXECS_FOLLOW).await;
            let (held, execs) = {
                let mut gate = lock(&task.exit_gate);
                (gate.give_up(), gate.execs())
            };
            if let Some(exit) = held {
                log::warn!(id = task.id.as_str(); "{execs} execs have not ended {EXECS_FOLLOW:?} after init");
                task.publish(&task.init, exit);
            }
        });
    }

    /// Sends the event of kills that the watch has not come to yet.
    pub(crate) fn tell_of_kills(&self) {
        if lock(&self.oom).catch_up() {
            self.events.send(Event::Oom { container_id: self.id.clone() });
        }
    }

    /// Tells everybody that a process ended: state, Wait, event, in this order and nowhere else,
    /// so that the three never disagree.
    fn publish(&self, process: &Process, exit: Exit) {
        match process.kind {
            Kind::Exec if exit.status == ExitStatus::KILLED => {
                // It may have been the kernel's kill, whose event comes first.
                self.tell_of_kills();
                lock(&self.oom).exec_killed(&process.id, self.init.pid());
            }
            Kind::Exec => {}
            Kind::Init => {
                if lock(&self.oom).finish(Some(exit.status)) {
                    // The kill that ended init: its event comes first.
                    self.events.send(Event::Oom { container_id: self.id.clone() });
                }
                self.native.close();
            }
        }
        if process.stopped(exit) {
            let (container_id, id) = (self.id.clone(), process.id.clone());
            self.events.send(Event::Exit { container_id, id, exit });
        }
    }
}
