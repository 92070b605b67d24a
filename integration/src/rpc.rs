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
use std::time::{Duration, Instant};

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

/// Who reads the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// Nobody: nobody waits.
    Nobody,
    /// The only call there is. Without a thread in between, a call costs what the server makes it
    /// cost: that matters to who measures it.
    Caller,
    /// A thread, since there were two calls at a time.
    Thread,
}

/// A connection to a ttrpc server; closed when dropped.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    writer: Mutex<UnixStream>,
    pending: Pending,
    reader: Mutex<Reader>,
    next: AtomicU32,
}

impl Client {
    /// Connects to a Unix socket.
    ///
    /// # Errors
    /// connect(2) fails.
    pub fn connect(path: &Path) -> io::Result<Client> {
        Client::over(UnixStream::connect(path)?)
    }

    fn over(stream: UnixStream) -> io::Result<Client> {
        let writer = Mutex::new(stream.try_clone()?);
        let pending: Pending = Arc::new(Mutex::new(Some(HashMap::new())));
        let reader = Mutex::new(Reader::Nobody);
        Ok(Client { stream, writer, pending, reader, next: AtomicU32::new(1) })
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

    /// Calls that were sent and not answered.
    pub fn waiting(&self) -> usize {
        // With the lock of the writer: whoever is counted has sent his request.
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        lock(&self.pending).as_ref().map_or(0, HashMap::len)
    }

    fn exchange(&self, request: &Request, limit: Duration) -> Result<Vec<u8>, RpcError> {
        let (stream, receiver) = self.ask(request)?;
        let answer = self.answer(stream, &receiver, limit);
        if let Some(pending) = lock(&self.pending).as_mut() {
            pending.remove(&stream);
        }
        answer
    }

    fn ask(&self, request: &Request) -> Result<(u32, mpsc::Receiver<Vec<u8>>), RpcError> {
        let payload = request.write_to_bytes().map_err(io::Error::other)?;
        // Clients use odd stream numbers, and a server refuses one that does not rise: each is
        // chosen and written under one lock.
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = self.next.fetch_add(2, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel();
        lock(&self.pending).as_mut().ok_or(RpcError::Closed)?.insert(stream, sender);
        Frame { stream, kind: REQUEST, payload }.write_to(&*writer)?;
        Ok((stream, receiver))
    }

    fn answer(
        &self,
        stream: u32,
        receiver: &mpsc::Receiver<Vec<u8>>,
        limit: Duration,
    ) -> Result<Vec<u8>, RpcError> {
        if !self.take_the_reader() {
            return receiver.recv_timeout(limit).map_err(|error| match error {
                RecvTimeoutError::Timeout => RpcError::Timeout,
                RecvTimeoutError::Disconnected => RpcError::Closed,
            });
        }
        // Who read before may have read this one too.
        let answer = match receiver.try_recv() {
            Ok(answer) => Ok(answer),
            Err(_) => self.read_until(stream, limit),
        };
        self.pass_the_reader_on(stream)?;
        answer
    }

    fn reader(&self) -> std::sync::MutexGuard<'_, Reader> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_the_reader(&self) -> bool {
        let mut reader = self.reader();
        let free = *reader == Reader::Nobody;
        if free {
            *reader = Reader::Caller;
        }
        free
    }

    /// Reads until the answer to `stream`; others go to whom they are for.
    fn read_until(&self, stream: u32, limit: Duration) -> Result<Vec<u8>, RpcError> {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(RpcError::Timeout);
            }
            self.stream.set_read_timeout(Some(left))?;
            match Frame::read_from(&self.stream) {
                Ok(frame) if frame.stream == stream => return Ok(frame.payload),
                Ok(frame) => hand_over(frame, &self.pending),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(RpcError::Timeout);
                }
                Err(_) => {
                    *lock(&self.pending) = None;
                    return Err(RpcError::Closed);
                }
            }
        }
    }

    /// Whoever else waits by now cannot read by itself any more.
    fn pass_the_reader_on(&self, stream: u32) -> io::Result<()> {
        let mut reader = self.reader();
        let others = lock(&self.pending)
            .as_ref()
            .is_some_and(|all| all.keys().any(|waiting| *waiting != stream));
        if !others {
            *reader = Reader::Nobody;
            return Ok(());
        }
        *reader = Reader::Thread;
        self.stream.set_read_timeout(None)?;
        let (stream, answers) = (self.stream.try_clone()?, Arc::clone(&self.pending));
        thread::spawn(move || dispatch(&stream, &answers));
        Ok(())
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
        hand_over(frame, pending);
    }
    *lock(pending) = None;
}

fn hand_over(frame: Frame, pending: &Pending) {
    let caller = lock(pending).as_mut().and_then(|all| all.remove(&frame.stream));
    if let Some(caller) = caller {
        caller.send(frame.payload).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::RESPONSE;

    /// Answers `calls` requests with what they ask.
    fn echo(server: &UnixStream, calls: usize) {
        for _ in 0..calls {
            let Frame { stream, payload, .. } = Frame::read_from(server).unwrap();
            Frame { stream, kind: RESPONSE, payload }.write_to(server).unwrap();
        }
    }

    #[test]
    fn an_answer_that_another_call_has_read_is_not_waited_for() {
        let (client, server) = UnixStream::pair().unwrap();
        let client = Client::over(client).unwrap();
        let named = |method: &str| Request { method: method.to_owned(), ..Request::default() };
        let (stream, receiver) = client.ask(&named("first")).unwrap();
        let server = thread::spawn(move || echo(&server, 2));
        let second = client.exchange(&named("second"), LIMIT).unwrap();
        assert_eq!(Request::parse_from_bytes(&second).unwrap(), named("second"));
        server.join().unwrap();
        let first = client.answer(stream, &receiver, LIMIT).unwrap();
        assert_eq!(Request::parse_from_bytes(&first).unwrap(), named("first"));
    }
}
