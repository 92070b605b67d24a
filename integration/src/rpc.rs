// SPDX-License-Identifier: Apache-2.0
//! A blocking ttrpc client. One connection, any number of threads calling at a time.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use protobuf::Message;
pub use ttrpc::proto::Code;
use ttrpc::proto::{Request, Response};

use crate::frame::{Frame, REQUEST};
use crate::wait;

/// How long a call may take before the client gives up.
pub const LIMIT: Duration = Duration::from_secs(30);

/// A call that did not succeed.
#[derive(Debug)]
pub enum RpcError {
    /// The server answered with an error.
    Status {
        /// The gRPC code.
        code: Code,
        /// Its text.
        message: String,
    },
    /// No answer within the limit.
    Timeout,
    /// The server closed the connection.
    Closed,
    /// The connection failed, or the answer is not what the method returns.
    Transport(io::Error),
}

impl RpcError {
    /// The status code, if the server answered.
    pub fn code(&self) -> Option<Code> {
        match self {
            RpcError::Status { code, .. } => Some(*code),
            RpcError::Timeout | RpcError::Closed | RpcError::Transport(_) => None,
        }
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RpcError::Status { code, message } => write!(f, "{code:?}: {message}"),
            RpcError::Timeout => write!(f, "no answer in time"),
            RpcError::Closed => write!(f, "connection closed"),
            RpcError::Transport(error) => write!(f, "transport: {error}"),
        }
    }
}

impl std::error::Error for RpcError {}

impl From<io::Error> for RpcError {
    fn from(error: io::Error) -> RpcError {
        let closed = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
        if closed.contains(&error.kind()) { RpcError::Closed } else { RpcError::Transport(error) }
    }
}

/// Asserts that a call was refused with this code and exactly this text.
#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "the call to assert about stands in place")]
pub fn assert_refused<T: fmt::Debug>(result: Result<T, RpcError>, code: Code, text: &str) {
    let met = match &result {
        Err(RpcError::Status { code: seen, message }) => *seen == code && message == text,
        Ok(_) | Err(_) => false,
    };
    assert!(met, "expected {code:?}: {text:?}, got {result:?}");
}

/// Calls waiting for their answers, by stream. `None` when the connection has ended.
type Pending = Arc<Mutex<Option<HashMap<u32, mpsc::Sender<Vec<u8>>>>>>;

/// A connection to a ttrpc server; closed when dropped.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    writer: Mutex<UnixStream>,
    pending: Pending,
    next: AtomicU32,
}

impl Client {
    /// Connects to a Unix socket.
    ///
    /// # Errors
    /// connect(2) fails.
    pub fn connect(path: &Path) -> io::Result<Client> {
        let stream = UnixStream::connect(path)?;
        let writer = Mutex::new(stream.try_clone()?);
        let reader = stream.try_clone()?;
        let pending: Pending = Arc::new(Mutex::new(Some(HashMap::new())));
        let answers = Arc::clone(&pending);
        thread::spawn(move || dispatch(&reader, &answers));
        Ok(Client { stream, writer, pending, next: AtomicU32::new(1) })
    }

    /// Calls a method with typed messages, within [`LIMIT`].
    ///
    /// # Errors
    /// See [`RpcError`].
    pub fn call<A: Message, R: Message>(
        &self,
        service: &str,
        method: &str,
        request: &A,
    ) -> Result<R, RpcError> {
        let payload = request.write_to_bytes().map_err(io::Error::other)?;
        let answer = self.raw(service, method, payload, LIMIT)?;
        Ok(R::parse_from_bytes(&answer).map_err(io::Error::other)?)
    }

    /// Calls any method of any service with any bytes, within the [scaled](wait::scaled) limit. The
    /// server is told the limit too.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub fn raw(
        &self,
        service: &str,
        method: &str,
        payload: Vec<u8>,
        limit: Duration,
    ) -> Result<Vec<u8>, RpcError> {
        let limit = wait::scaled(limit);
        let request = Request {
            service: service.to_owned(),
            method: method.to_owned(),
            timeout_nano: i64::try_from(limit.as_nanos()).unwrap_or(i64::MAX),
            payload,
            ..Request::default()
        };
        let answer = self.exchange(&request, limit)?;
        let response = Response::parse_from_bytes(&answer).map_err(io::Error::other)?;
        let status = response.status.unwrap_or_default();
        let code = status.code.enum_value_or(Code::UNKNOWN);
        if code == Code::OK {
            return Ok(response.payload);
        }
        Err(RpcError::Status { code, message: status.message })
    }

    /// Sends a request without a limit and does not wait for the answer: a client that goes away
    /// in the middle of a call, once this is dropped.
    ///
    /// # Errors
    /// The connection is closed.
    pub fn send<A: Message>(
        &self,
        service: &str,
        method: &str,
        request: &A,
    ) -> Result<(), RpcError> {
        let payload = request.write_to_bytes().map_err(io::Error::other)?;
        let (service, method) = (service.to_owned(), method.to_owned());
        let request = Request { service, method, payload, ..Request::default() };
        let payload = request.write_to_bytes().map_err(io::Error::other)?;
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = self.next.fetch_add(2, Ordering::Relaxed);
        Ok(Frame { stream, kind: REQUEST, payload }.write_to(&*writer)?)
    }

    fn exchange(&self, request: &Request, limit: Duration) -> Result<Vec<u8>, RpcError> {
        let payload = request.write_to_bytes().map_err(io::Error::other)?;
        // Clients use odd stream numbers, and a server refuses one that does not rise: each is
        // chosen and written under one lock.
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = self.next.fetch_add(2, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel();
        lock(&self.pending).as_mut().ok_or(RpcError::Closed)?.insert(stream, sender);
        Frame { stream, kind: REQUEST, payload }.write_to(&*writer)?;
        drop(writer);
        let answer = receiver.recv_timeout(limit).map_err(|error| match error {
            RecvTimeoutError::Timeout => RpcError::Timeout,
            RecvTimeoutError::Disconnected => RpcError::Closed,
        });
        if let Some(pending) = lock(&self.pending).as_mut() {
            pending.remove(&stream);
        }
        answer
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Ends the reader, whose clone would keep the connection open.
        self.stream.shutdown(Shutdown::Both).ok();
    }
}

type PendingGuard<'a> = std::sync::MutexGuard<'a, Option<HashMap<u32, mpsc::Sender<Vec<u8>>>>>;

fn lock(pending: &Pending) -> PendingGuard<'_> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hands answers to their callers until the connection ends; then no caller waits any more.
fn dispatch(stream: &UnixStream, pending: &Pending) {
    while let Ok(frame) = Frame::read_from(stream) {
        let caller = lock(pending).as_mut().and_then(|all| all.remove(&frame.stream));
        if let Some(caller) = caller {
            caller.send(frame.payload).ok();
        }
    }
    *lock(pending) = None;
}
