// SPDX-License-Identifier: Apache-2.0
//! The ttrpc server that containerd talks to.
//!
//! Messages and framing constants are those of the `ttrpc` crate; its server is not used, because
//! it answers InvalidArgument for an unknown service where containerd relies on Unimplemented to
//! fall back from task v3 to v2 (containerd #11761), drops handlers in mid-flight when a client
//! goes away, and spins when `accept` fails with EMFILE. What a peer can observe follows Go's
//! `ttrpc/server.go`.
//!
//! One task per connection reads requests and writes replies; each request is a task of its
//! connection. A [`Call::Change`] runs in a set owned by the server instead, so that neither a
//! lost client nor a deadline tears it in half (invariant I6).

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::unistd::{getegid, geteuid};
use protobuf::Message;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use ttrpc::proto::{
    Code, FLAG_REMOTE_OPEN, MESSAGE_LENGTH_MAX, MESSAGE_TYPE_DATA, MESSAGE_TYPE_REQUEST,
    MessageHeader, Request, Response, Status,
};
use wedge_task::Sandbox;

use crate::memory::Rest;
use crate::service::TaskService;
use crate::status;
use crate::wire::{Frame, Frames, ReadHalf, WriteHalf, split, write_frame};

/// Replies of one connection that wait for its writer; when full, handlers and the reader wait.
const REPLY_QUEUE: usize = 64;

/// Requests of one connection that are being worked on, and again as many Waits. containerd keeps one
/// Wait per process, and a Go client that gives one up says nothing: it stays until the process
/// ends. So they are counted by themselves, and never stand in the way of a State or Delete.
const MAX_IN_FLIGHT: usize = 16_384;

/// Bounds of the pause after a failed accept.
const ACCEPT_PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// What a request comes to: the encoded response message, or a non-OK status.
pub(crate) type Outcome = Result<Vec<u8>, Status>;

/// A request being worked on.
pub(crate) type Answer = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// A request that was found to have a handler.
pub(crate) enum Call {
    /// Changes something: runs to its end even when nobody waits for the answer any more.
    Change(Answer),
    /// Looks: dropped with its connection or at its deadline.
    Query(Answer),
    /// Waits for as long as it takes; dropped like a query.
    Wait(Answer),
}

/// Finds handlers. Implemented by the task service, and by the fake services of the tests.
pub(crate) trait Dispatch: Send + Sync {
    /// Returns the unstarted work that answers `method` of `service`.
    ///
    /// # Errors
    ///
    /// Unimplemented, see [`status::unknown_service`] and [`status::unknown_method`].
    fn dispatch(&self, service: &str, method: &str, payload: Vec<u8>) -> Result<Call, Status>;
}

/// Serves one listening socket.
pub(crate) struct Server {
    dispatch: Arc<dyn Dispatch>,
    /// uid and gid a peer must have.
    owner: (u32, u32),
    changes: Arc<Changes>,
}

impl Server {
    /// A server of the task API for `sandbox`, open to peers with our own effective ids.
    pub(crate) fn new(sandbox: Arc<Sandbox>) -> Server {
        Server::over(Arc::new(TaskService::new(sandbox)))
    }

    pub(crate) fn over(dispatch: Arc<dyn Dispatch>) -> Server {
        let owner = (geteuid().as_raw(), getegid().as_raw());
        Server { dispatch, owner, changes: Arc::default() }
    }

    /// What each change disturbs.
    pub(crate) fn rest(&self) -> Arc<Rest> {
        Arc::clone(&self.changes.rest)
    }

    /// Accepts and serves for ever. Dropping the future closes every connection and ends every
    /// request, changes included.
    pub(crate) async fn serve(self, listener: UnixListener) {
        let changes = Arc::clone(&self.changes);
        let mut connections = JoinSet::new();
        let mut pause = ACCEPT_PAUSE.0;
        loop {
            let accepted = tokio::select! {
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) if self.admits(&stream) => {
                    pause = ACCEPT_PAUSE.0;
                    let dispatch = Arc::clone(&self.dispatch);
                    connections.spawn(Connection::run(stream, dispatch, Arc::clone(&changes)));
                }
                Ok(_) => {}
                Err(err) => {
                    // EMFILE and the like last: the pending connection stays in the backlog.
                    log::warn!(err:%; "cannot accept a connection");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(ACCEPT_PAUSE.1);
                }
            }
        }
    }

    /// Go's `UnixSocketRequireSameUser`: others are turned away without a word.
    fn admits(&self, stream: &UnixStream) -> bool {
        match stream.peer_cred() {
            Ok(peer) if (peer.uid(), peer.gid()) == self.owner => true,
            Ok(peer) => {
                log::warn!(uid = peer.uid(), gid = peer.gid(); "refused a connection");
                false
            }
            Err(err) => {
                log::warn!(err:%; "cannot read the credentials of a peer");
                false
            }
        }
    }
}

/// The changes under way, of all connections.
#[derive(Default)]
struct Changes {
    tasks: Mutex<JoinSet<()>>,
    rest: Arc<Rest>,
}

impl Changes {
    /// Starts `change` and returns what waits for it; dropping that does not stop the change.
    fn start(&self, change: Answer) -> Answer {
        self.rest.disturb();
        let (done, outcome) = oneshot::channel();
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            if done.send(change.await).is_err() {
                log::debug!("a request ended after its client had stopped waiting");
            }
        });
        Box::pin(async move {
            outcome
                .await
                .unwrap_or_else(|_| Err(status::new(Code::INTERNAL, "request was aborted")))
        })
    }
}

struct Reply {
    stream_id: u32,
    outcome: Outcome,
}

/// The reading side of a connection.
struct Connection {
    dispatch: Arc<dyn Dispatch>,
    changes: Arc<Changes>,
    replies: mpsc::Sender<Reply>,
    requests: JoinSet<()>,
    waits: JoinSet<()>,
    last_stream_id: u32,
}

impl Connection {
    /// Serves `stream` until the peer closes it or either direction fails.
    async fn run(stream: UnixStream, dispatch: Arc<dyn Dispatch>, changes: Arc<Changes>) {
        let (from, to) = match split(stream) {
            Ok(halves) => halves,
            Err(err) => return log::warn!(err:%; "cannot poll a connection"),
        };
        let (replies, queue) = mpsc::channel(REPLY_QUEUE);
        let (requests, waits) = (JoinSet::new(), JoinSet::new());
        let connection =
            Connection { dispatch, changes, replies, requests, waits, last_stream_id: 0 };
        let ended = tokio::select! {
            ended = connection.read(from) => ended,
            ended = write(to, queue) => ended,
        };
        if let Err(err) = ended {
            log::debug!(err:%; "connection failed");
        }
    }

    async fn read(mut self, from: ReadHalf) -> io::Result<()> {
        let mut frames = Frames::new(from);
        loop {
            let frame = tokio::select! {
                Some(_) = self.requests.join_next() => continue,
                Some(_) = self.waits.join_next() => continue,
                frame = frames.next() => frame?,
            };
            let Some(frame) = frame else { return Ok(()) };
            let stream_id = frame.header.stream_id;
            if let Err(status) = self.accept(frame) {
                let reply = Reply { stream_id, outcome: Err(status) };
                // The writer ends only together with this function.
                self.replies.send(reply).await.map_err(io::Error::other)?;
            }
        }
    }

    /// Starts the request in `frame`; an error is answered on the frame's stream, as Go does even
    /// when the stream id itself is wrong.
    fn accept(&mut self, frame: Frame) -> Result<(), Status> {
        let Frame { header, payload } = frame;
        let payload = payload.ok_or_else(|| too_long(u64::from(header.length)))?;
        if header.stream_id % 2 == 0 {
            return Err(invalid("StreamID must be odd for client initiated streams"));
        }
        match header.type_ {
            MESSAGE_TYPE_REQUEST => self.request(header, &payload),
            // None of our methods streams, so no stream is ever open for data.
            MESSAGE_TYPE_DATA => Err(invalid("StreamID is no longer active")),
            _ => Ok(()),
        }
    }

    fn request(&mut self, header: MessageHeader, payload: &[u8]) -> Result<(), Status> {
        if header.stream_id <= self.last_stream_id {
            return Err(invalid("StreamID cannot be re-used and must increment"));
        }
        self.last_stream_id = header.stream_id;
        let request = Request::parse_from_bytes(payload)
            .map_err(|err| invalid(format!("unmarshal request error: {err}")))?;
        let method = request.method.as_str();
        let call = self.dispatch.dispatch(&request.service, method, request.payload)?;
        if header.flags & FLAG_REMOTE_OPEN != 0 {
            return Err(invalid(format!("method {method} does not stream")));
        }
        self.start(header.stream_id, call, limit(request.timeout_nano)?)
    }

    fn start(&mut self, stream_id: u32, call: Call, limit: Option<Duration>) -> Result<(), Status> {
        let (queue, text) = match &call {
            Call::Change(_) | Call::Query(_) => (&mut self.requests, "too many requests in flight"),
            Call::Wait(_) => (&mut self.waits, "too many processes are waited for"),
        };
        if queue.len() >= MAX_IN_FLIGHT {
            return Err(status::new(Code::RESOURCE_EXHAUSTED, text));
        }
        let answer = match call {
            Call::Change(change) => self.changes.start(change),
            Call::Query(answer) | Call::Wait(answer) => answer,
        };
        let replies = self.replies.clone();
        queue.spawn(async move {
            let outcome = within(limit, answer).await;
            let reply = Reply { stream_id, outcome };
            if replies.send(reply).await.is_err() {
                log::debug!("connection closed before a reply was sent");
            }
        });
        Ok(())
    }
}

/// The time a request has; `None` is no limit. A negative one has passed already.
fn limit(timeout_nano: i64) -> Result<Option<Duration>, Status> {
    match u64::try_from(timeout_nano) {
        Ok(0) => Ok(None),
        Ok(nanos) => Ok(Some(Duration::from_nanos(nanos))),
        Err(_) => Err(deadline_exceeded()),
    }
}

async fn within(limit: Option<Duration>, answer: Answer) -> Outcome {
    let Some(limit) = limit else {
        return answer.await;
    };
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| Err(deadline_exceeded()))
}

async fn write(mut to: WriteHalf, mut queue: mpsc::Receiver<Reply>) -> io::Result<()> {
    while let Some(Reply { stream_id, outcome }) = queue.recv().await {
        let mut response = response(outcome);
        let length = response.compute_size();
        if length > MESSAGE_LENGTH_MAX as u64 {
            response = self::response(Err(too_long(length)));
        }
        let header = |length| MessageHeader::new_response(stream_id, length);
        write_frame(&mut to, &response, header).await?;
    }
    Ok(())
}

/// Like Go, sends no status with a success.
fn response(outcome: Outcome) -> Response {
    let mut response = Response::new();
    match outcome {
        Ok(payload) => response.payload = payload,
        Err(status) => response.status = Some(status).into(),
    }
    response
}

fn invalid(message: impl Into<String>) -> Status {
    status::new(Code::INVALID_ARGUMENT, message)
}

fn deadline_exceeded() -> Status {
    status::new(Code::DEADLINE_EXCEEDED, "context deadline exceeded")
}

fn too_long(length: u64) -> Status {
    let text =
        format!("message length {length} exceed maximum message size of {MESSAGE_LENGTH_MAX}");
    status::new(Code::RESOURCE_EXHAUSTED, text)
}

#[cfg(test)]
mod tests;
