// SPDX-License-Identifier: Apache-2.0
//! Sends events to containerd: one queue, in the order of happening, each event retired only when
//! containerd has acknowledged it.
//!
//! Go's publisher puts a failed event back at the end of its queue and gives up after some 15 s,
//! so a restart of containerd loses and reorders events, and docker and CRI rely on their order.
//! Here the head of the queue is tried until it is accepted, over a connection made when needed.
//! An event may arrive twice: when containerd took it and the answer was lost. A containerd that hung,
//! and wakes up, may take the copies that wait in its connections in any order.

mod channel;
mod feed;
mod queue;

use std::io;
use std::pin::pin;
use std::time::Duration;

use containerd_shim_protos::api::ForwardRequest;
use containerd_shim_protos::shim::event::Envelope;
use protobuf::MessageField;
use tokio::time::{sleep, timeout};
use ttrpc::proto::{Code, MESSAGE_LENGTH_MAX, Status};
use wedge_task::Stamped;

use self::channel::Channel;
pub(crate) use self::feed::Feed;
use self::queue::Queue;
use crate::convert;

/// How long one attempt may take, connecting included; as in Go.
const ATTEMPT: Duration = Duration::from_secs(5);

/// Bounds of the pause between attempts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The longest event sent; the rest of a ttrpc message is for what is around it.
const EVENT_MAX: usize = MESSAGE_LENGTH_MAX - 4096;

/// The one sender of events.
#[derive(Debug)]
pub(crate) struct Publisher {
    address: String,
    namespace: String,
}

impl Publisher {
    /// A publisher for the containerd that listens for ttrpc at the path `ttrpc_address`, with or
    /// without `unix://`. An empty address means that nobody wants the events.
    pub(crate) fn new(ttrpc_address: String, namespace: String) -> Publisher {
        let address = match ttrpc_address.strip_prefix("unix://") {
            Some(path) => path.to_owned(),
            None => ttrpc_address,
        };
        Publisher { address, namespace }
    }

    /// Sends what comes out of `events` until that is closed and everything is sent. While
    /// containerd is away this waits for ever, so a shutdown has to limit it.
    pub(crate) async fn run(self, mut events: Feed) {
        if self.address.is_empty() {
            log::warn!("no containerd address: events are not published");
            while events.next().await.is_some() {}
            return;
        }
        let mut queue = Queue::default();
        let mut link = Link { address: self.address, channel: None };
        while let Some(event) = next(&mut queue, &mut events).await {
            let Some(request) = request(&self.namespace, event) else {
                continue;
            };
            let mut delivery = pin!(link.deliver(&request));
            loop {
                tokio::select! {
                    () = &mut delivery => break,
                    Some(event) = events.next() => queue.push(event),
                }
            }
            queue.report();
        }
    }
}

/// The head of the queue, or the next event that comes; `None` when there will be none.
async fn next(queue: &mut Queue, events: &mut Feed) -> Option<Stamped> {
    match queue.pop() {
        Some(event) => Some(event),
        None => events.next().await,
    }
}

/// The message for one event; `None`, and a line in the log, if it cannot be sent at all.
fn request(namespace: &str, stamped: Stamped) -> Option<ForwardRequest> {
    let Stamped { at, event } = stamped;
    match convert::event(*event) {
        Ok((topic, event)) if event.value.len() <= EVENT_MAX => {
            let envelope = Envelope {
                timestamp: convert::timestamp(at),
                namespace: namespace.to_owned(),
                topic,
                event: MessageField::some(event),
                ..Default::default()
            };
            let envelope = MessageField::some(envelope);
            Some(ForwardRequest { envelope, ..Default::default() })
        }
        Ok((topic, event)) => {
            log::error!(topic = topic, bytes = event.value.len(); "event is too long to publish");
            None
        }
        Err(err) => {
            log::error!(err:%; "cannot encode an event");
            None
        }
    }
}

/// Why an attempt did not deliver its event.
#[derive(Debug)]
enum Failure {
    /// containerd will never take this event.
    Refused(Status),
    /// containerd answered that it cannot take it now.
    NotNow(Status),
    /// No answer: containerd is away, restarting or stuck.
    Unreachable(String),
}

/// The connection to containerd.
struct Link {
    address: String,
    channel: Option<Channel>,
}

impl Link {
    /// Returns when containerd has taken `request`, or has refused it for good.
    async fn deliver(&mut self, request: &ForwardRequest) {
        let topic = request.envelope.topic.as_str();
        let mut pause = PAUSE.0;
        let mut failures = 0_u32;
        loop {
            let problem = match self.attempt(request).await {
                Ok(()) if failures > 0 => {
                    log::info!(topic = topic, failures = failures; "event published at last");
                    return;
                }
                Ok(()) => return,
                Err(Failure::Refused(status)) => {
                    log::error!(topic = topic, err = status.message; "containerd refused an event");
                    return;
                }
                Err(Failure::NotNow(status)) => status.message,
                Err(Failure::Unreachable(problem)) => {
                    self.channel = None;
                    problem
                }
            };
            if failures == 0 {
                log::warn!(topic = topic, err = problem; "cannot publish an event, trying on");
            }
            failures = failures.saturating_add(1);
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    async fn attempt(&mut self, request: &ForwardRequest) -> Result<(), Failure> {
        match timeout(ATTEMPT, self.forward(request)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::Unreachable("no answer in time".to_owned())),
        }
    }

    async fn forward(&mut self, request: &ForwardRequest) -> Result<(), Failure> {
        let unreachable = |err: io::Error| Failure::Unreachable(err.to_string());
        let channel = match self.channel.take() {
            Some(channel) => channel,
            None => Channel::connect(&self.address).await.map_err(unreachable)?,
        };
        let channel = self.channel.insert(channel);
        let status = channel.forward(request, ATTEMPT).await.map_err(unreachable)?;
        if status.code == Code::OK.into() { Ok(()) } else { Err(answered(status)) }
    }
}

/// Trying again helps unless the event itself is the problem: containerd answers InvalidArgument
/// for an envelope it does not like, Internal for one it cannot decode and ResourceExhausted for
/// one that is too long.
fn answered(status: Status) -> Failure {
    const FINAL: [Code; 3] = [Code::INVALID_ARGUMENT, Code::INTERNAL, Code::RESOURCE_EXHAUSTED];
    if FINAL.contains(&status.code.enum_value_or(Code::UNKNOWN)) {
        Failure::Refused(status)
    } else {
        Failure::NotNow(status)
    }
}

#[cfg(test)]
mod tests;
