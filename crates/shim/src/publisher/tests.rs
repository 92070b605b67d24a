// SPDX-License-Identifier: Apache-2.0
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use protobuf::Message;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use wedge_task::{Event, EventSink};

use super::*;
use crate::server::{Call, Dispatch, Server};
use crate::status;

/// A containerd that records the pids of the start events it is sent, and answers at the gate.
struct Recorder {
    seen: mpsc::UnboundedSender<u32>,
    gate: watch::Receiver<bool>,
    /// Answered with this code instead of success, for the start of pid 13.
    thirteen: Option<Code>,
}

impl Dispatch for Recorder {
    fn dispatch(&self, service: &str, method: &str, payload: Vec<u8>) -> Result<Call, Status> {
        assert_eq!(service, "containerd.services.events.ttrpc.v1.Events");
        assert_eq!(method, "Forward");
        let envelope = ForwardRequest::parse_from_bytes(&payload).unwrap().envelope.unwrap();
        assert_eq!((envelope.namespace.as_str(), envelope.topic.as_str()), ("ns", "/tasks/start"));
        assert!(envelope.timestamp.seconds > 0);
        let start = envelope.event.value.as_slice();
        let start = containerd_shim_protos::events::task::TaskStart::parse_from_bytes(start);
        let pid = start.unwrap().pid;
        self.seen.send(pid).unwrap();
        let (mut gate, code) = (self.gate.clone(), self.thirteen.filter(|_| pid == 13));
        Ok(Call::Query(Box::pin(async move {
            gate.wait_for(|open| *open).await.unwrap();
            match code {
                None => Ok(Vec::new()),
                Some(code) => Err(status::new(code, "no thirteen")),
            }
        })))
    }
}

/// A publisher, and a containerd that can be started and stopped.
struct Env {
    dir: TempDir,
    sink: EventSink,
    _close: oneshot::Sender<()>,
    publisher: JoinSet<()>,
    containerd: JoinSet<()>,
    seen: UnboundedReceiver<u32>,
    seen_by: mpsc::UnboundedSender<u32>,
    gate: watch::Sender<bool>,
    thirteen: Option<Code>,
}

impl Env {
    fn new() -> Env {
        let dir = tempfile::tempdir().unwrap();
        let (sink, events) = EventSink::channel();
        let (feed, close) = Feed::new(events);
        let (seen_by, seen) = mpsc::unbounded_channel();
        let address = format!("unix://{}", socket(dir.path()).display());
        let mut publisher = JoinSet::new();
        publisher.spawn(Publisher::new(address, "ns".to_owned()).run(feed));
        let (gate, _) = watch::channel(true);
        let containerd = JoinSet::new();
        Env { dir, sink, _close: close, publisher, containerd, seen, seen_by, gate, thirteen: None }
    }

    fn start(&mut self) {
        let recorder = Recorder {
            seen: self.seen_by.clone(),
            gate: self.gate.subscribe(),
            thirteen: self.thirteen,
        };
        let listener = UnixListener::bind(socket(self.dir.path())).unwrap();
        self.containerd.spawn(Server::over(Arc::new(recorder)).serve(listener));
    }

    async fn stop(&mut self) {
        self.containerd.shutdown().await;
        std::fs::remove_file(socket(self.dir.path())).unwrap();
    }

    fn send(&self, pids: impl IntoIterator<Item = u32>) {
        for pid in pids {
            self.sink.send(Event::Start { container_id: "c".to_owned(), pid });
        }
    }

    async fn expect(&mut self, pids: impl IntoIterator<Item = u32>) {
        for pid in pids {
            assert_eq!(soon(self.seen.recv()).await, Some(pid));
        }
    }

    /// Closes the queue and waits until the publisher has ended by itself.
    async fn finish(mut self) {
        drop(self.sink);
        soon(self.publisher.join_next()).await.unwrap().unwrap();
        assert!(self.seen.try_recv().is_err(), "nothing was sent twice");
    }
}

fn socket(dir: &Path) -> PathBuf {
    dir.join("containerd.sock.ttrpc")
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("in time")
}

#[tokio::test]
async fn events_come_in_order_and_the_queue_is_emptied_before_the_end() {
    let mut env = Env::new();
    env.start();
    env.send(0..500);
    env.expect(0..500).await;
    env.finish().await;
}

#[tokio::test]
async fn events_wait_for_a_containerd_that_is_not_there_yet() {
    let mut env = Env::new();
    env.send(0..50);
    // The publisher runs, and fails, as soon as this task yields.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    env.start();
    env.expect(0..50).await;
    env.finish().await;
}

#[tokio::test]
async fn order_is_kept_across_restarts() {
    let mut env = Env::new();
    for round in 0..3 {
        env.start();
        env.send(round * 20..round * 20 + 10);
        env.expect(round * 20..round * 20 + 10).await;
        env.stop().await;
        env.send(round * 20 + 10..round * 20 + 20);
        env.start();
        env.expect(round * 20 + 10..round * 20 + 20).await;
        env.stop().await;
    }
    env.start();
    env.finish().await;
}

#[tokio::test]
async fn an_event_that_was_not_acknowledged_is_sent_again() {
    let mut env = Env::new();
    env.gate.send_replace(false);
    env.start();
    env.send([1, 2]);
    env.expect([1]).await;
    env.stop().await;
    env.gate.send_replace(true);
    env.start();
    env.expect([1, 2]).await;
    env.finish().await;
}

#[tokio::test]
async fn one_event_at_a_time_however_slow_the_answer() {
    let mut env = Env::new();
    env.gate.send_replace(false);
    env.start();
    env.send([1, 2, 3]);
    env.expect([1]).await;
    let early = timeout(Duration::from_millis(100), env.seen.recv()).await;
    assert!(early.is_err(), "{early:?} overtook an event that was not acknowledged");
    env.gate.send_replace(true);
    env.expect([2, 3]).await;
    env.finish().await;
}

#[tokio::test]
async fn an_event_containerd_refuses_does_not_block_the_rest() {
    for code in [Code::INVALID_ARGUMENT, Code::INTERNAL] {
        let mut env = Env::new();
        env.thirteen = Some(code);
        env.start();
        env.send([12, 13, 14]);
        env.expect([12, 13, 14]).await;
        env.finish().await;
    }
}

#[tokio::test]
async fn an_event_containerd_cannot_take_now_is_tried_again() {
    let mut env = Env::new();
    env.thirteen = Some(Code::UNAVAILABLE);
    env.start();
    env.send([12, 13, 14]);
    env.expect([12, 13, 13, 13]).await;
    env.stop().await;
    env.thirteen = None;
    env.start();
    let mut last = 13;
    while last == 13 {
        last = soon(env.seen.recv()).await.unwrap();
    }
    assert_eq!(last, 14);
    env.finish().await;
}

#[tokio::test]
async fn without_an_address_events_are_discarded() {
    let (sink, events) = EventSink::channel();
    for pid in 0..10 {
        sink.send(Event::Start { container_id: "c".to_owned(), pid });
    }
    drop(sink);
    let (feed, _close) = Feed::new(events);
    soon(Publisher::new(String::new(), "ns".to_owned()).run(feed)).await;
}
