// SPDX-License-Identifier: Apache-2.0
//! What the outside world is told, in domain terms.

use std::path::PathBuf;
use std::time::SystemTime;

use tokio::sync::mpsc;
use wedge_oci::Mount;
use wedge_reaper::Exit;
use wedge_stdio::Request;

/// One event, published to containerd under the topic of the same name (`/tasks/…`).
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are those of containerd's api/events/task.proto")]
pub enum Event {
    /// A container was created; its init waits to be started.
    Create {
        container_id: String,
        bundle: PathBuf,
        rootfs: Vec<Mount>,
        stdio: Request,
        checkpoint: String,
        pid: u32,
    },
    /// The init was started.
    Start { container_id: String, pid: u32 },
    /// An exec was registered; it has no process yet.
    ExecAdded { container_id: String, exec_id: String },
    /// An exec's process runs.
    ExecStarted { container_id: String, exec_id: String, pid: u32 },
    /// A process ended. `id` is the container's for the init, the exec's otherwise.
    Exit { container_id: String, id: String, exit: Exit },
    /// A container was deleted.
    Delete { container_id: String, pid: u32, exit: Option<Exit> },
    /// The kernel killed something in the container for want of memory.
    Oom { container_id: String },
    /// The container is frozen.
    Paused { container_id: String },
    /// The container runs again.
    Resumed { container_id: String },
}

/// An event and the time at which it happened.
#[derive(Debug, Clone)]
pub struct Stamped {
    /// When.
    pub at: SystemTime,
    /// What.
    pub event: Box<Event>,
}

/// Where events go: one queue, in the order of happening. Sending never waits, so that a daemon
/// that hangs cannot hold up a request; the publisher bounds the queue.
#[derive(Debug, Clone)]
pub struct EventSink(mpsc::UnboundedSender<Stamped>);

impl EventSink {
    /// Makes the queue. It ends when the last sink is dropped.
    pub fn channel() -> (EventSink, mpsc::UnboundedReceiver<Stamped>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (EventSink(sender), receiver)
    }

    /// Queues an event.
    pub fn send(&self, event: Event) {
        if self.0.send(Stamped { at: SystemTime::now(), event: Box::new(event) }).is_err() {
            log::debug!("an event came after the publisher had ended");
        }
    }
}
