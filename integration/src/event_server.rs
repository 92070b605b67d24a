// SPDX-License-Identifier: Apache-2.0
//! containerd's end of the event stream (`containerd.services.events.ttrpc.v1.Events`): records
//! what a shim forwards, in the order of the wire, and misbehaves when told to.

use std::fs;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use containerd_shim_protos::api::ForwardRequest;
use containerd_shim_protos::events::task::{
    TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskOOM, TaskPaused,
    TaskResumed, TaskStart,
};
use containerd_shim_protos::shim::event::Envelope;
use protobuf::well_known_types::timestamp::Timestamp;
use protobuf::{Message, MessageField};
use ttrpc::proto::{Code, Request, Response, Status};

use crate::events::{Event, EventLog};
use crate::frame::{Frame, RESPONSE};

/// How the server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Answer {
    /// Records the event and says so.
    #[default]
    Accept,
    /// Answers with status Unavailable; records nothing.
    Refuse,
    /// Reads the request and never answers; records nothing.
    Hang,
}

/// What connections share.
#[derive(Debug, Clone, Default)]
struct Shared {
    log: EventLog,
    answer: Arc<Mutex<Answer>>,
    connections: Arc<Mutex<Vec<UnixStream>>>,
}

/// The server, on a Unix socket of its own.
#[derive(Debug)]
pub struct EventServer {
    path: PathBuf,
    shared: Shared,
    listening: Option<(UnixListener, JoinHandle<()>)>,
}

impl EventServer {
    /// Starts a server on `path`.
    ///
    /// # Errors
    /// The socket cannot be bound.
    pub fn start(path: &Path) -> Result<EventServer> {
        let shared = Shared::default();
        let mut server = EventServer { path: path.to_path_buf(), shared, listening: None };
        server.restart()?;
        Ok(server)
    }

    /// The events so far; the log stays when the server stops.
    pub fn log(&self) -> &EventLog {
        &self.shared.log
    }

    /// The socket: the shim's `TTRPC_ADDRESS`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many connections were accepted since it listens.
    pub fn connections(&self) -> usize {
        lock(&self.shared.connections).len()
    }

    /// Changes how requests from now on are answered.
    pub fn answer(&self, answer: Answer) {
        *lock(&self.shared.answer) = answer;
    }

    /// Stops listening, closes all connections and removes the socket: containerd is down.
    pub fn stop(&mut self) {
        let Some((listener, acceptor)) = self.listening.take() else { return };
        // Wakes the thread in accept(2) with EINVAL.
        nix::sys::socket::shutdown(listener.as_raw_fd(), nix::sys::socket::Shutdown::Both).ok();
        acceptor.join().ok();
        let _nobody_answers = lock(&self.shared.answer);
        for connection in lock(&self.shared.connections).drain(..) {
            connection.shutdown(Shutdown::Both).ok();
        }
        fs::remove_file(&self.path).ok();
    }

    /// Listens again after [`EventServer::stop`].
    ///
    /// # Errors
    /// The socket cannot be bound.
    pub fn restart(&mut self) -> Result<()> {
        self.stop();
        let listener = UnixListener::bind(&self.path)
            .with_context(|| format!("binding {}", self.path.display()))?;
        let (acceptor, shared) = (listener.try_clone()?, self.shared.clone());
        let thread = thread::spawn(move || accept(&acceptor, &shared));
        self.listening = Some((listener, thread));
        Ok(())
    }
}

impl Drop for EventServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn accept(listener: &UnixListener, shared: &Shared) {
    while let Ok((stream, _)) = listener.accept() {
        let Ok(own) = stream.try_clone() else { continue };
        lock(&shared.connections).push(own);
        let shared = shared.clone();
        thread::spawn(move || serve(&stream, &shared).ok());
    }
}

/// One connection: frame by frame, so the order of the wire is the order of the log.
fn serve(stream: &UnixStream, shared: &Shared) -> io::Result<()> {
    loop {
        let frame = Frame::read_from(stream)?;
        // Held until it is answered: what is in the log was, also when the server is stopped.
        let answer = lock(&shared.answer);
        let recorded = match *answer {
            Answer::Hang => continue,
            Answer::Refuse => Err(status(Code::UNAVAILABLE, "told to refuse")),
            Answer::Accept => record(&frame.payload)
                .map_err(|error| status(Code::INVALID_ARGUMENT, &error.to_string())),
        };
        let (event, status) = match recorded {
            Ok(event) => (Some(event), Status::new()),
            Err(status) => (None, status),
        };
        let response = Response { status: MessageField::some(status), ..Response::default() };
        let payload = response.write_to_bytes()?;
        Frame { stream: frame.stream, kind: RESPONSE, payload }.write_to(stream)?;
        event.into_iter().for_each(|event| shared.log.push(event));
    }
}

fn status(code: Code, text: &str) -> Status {
    Status { code: code.into(), message: text.to_owned(), ..Status::default() }
}

fn record(payload: &[u8]) -> Result<Event> {
    let request = Request::parse_from_bytes(payload)?;
    anyhow::ensure!(
        request.service == "containerd.services.events.ttrpc.v1.Events"
            && request.method == "Forward",
        "unknown method {}/{}",
        request.service,
        request.method
    );
    let forward = ForwardRequest::parse_from_bytes(&request.payload)?;
    decode(forward.envelope.into_option().context("no envelope")?)
}

fn decode(envelope: Envelope) -> Result<Event> {
    let any = envelope.event.into_option().context("no event")?;
    let mut event = Event {
        topic: envelope.topic,
        namespace: envelope.namespace,
        type_url: any.type_url,
        payload: any.value,
        ..Event::default()
    };
    fill(&mut event)?;
    Ok(event)
}

/// Reads the fields [`Event`] has out of the message.
fn fill(event: &mut Event) -> Result<()> {
    let bytes = event.payload.clone();
    macro_rules! fields {
        ($type:ty, |$message:ident| { $($field:ident: $value:expr),* $(,)? }) => {{
            let $message = <$type>::parse_from_bytes(&bytes)?;
            event.container_id = $message.container_id.clone();
            $(event.$field = $value;)*
        }};
    }
    match event.type_url.as_str() {
        "containerd.events.TaskCreate" => fields!(TaskCreate, |m| { pid: m.pid }),
        "containerd.events.TaskStart" => fields!(TaskStart, |m| { pid: m.pid }),
        "containerd.events.TaskExecAdded" => {
            fields!(TaskExecAdded, |m| { exec_id: m.exec_id.clone() });
        }
        "containerd.events.TaskExecStarted" => {
            fields!(TaskExecStarted, |m| { exec_id: m.exec_id.clone(), pid: m.pid });
        }
        "containerd.events.TaskExit" => fields!(TaskExit, |m| {
            exec_id: if m.id == m.container_id { String::new() } else { m.id.clone() },
            pid: m.pid,
            exit_status: m.exit_status,
            exited_at: time(&m.exited_at),
        }),
        "containerd.events.TaskDelete" => fields!(TaskDelete, |m| {
            pid: m.pid,
            exit_status: m.exit_status,
            exited_at: time(&m.exited_at),
        }),
        "containerd.events.TaskOOM" => fields!(TaskOOM, |m| {}),
        "containerd.events.TaskPaused" => fields!(TaskPaused, |m| {}),
        "containerd.events.TaskResumed" => fields!(TaskResumed, |m| {}),
        _ => {}
    }
    Ok(())
}

fn time(field: &MessageField<Timestamp>) -> Option<(i64, i32)> {
    field.as_ref().map(|time| (time.seconds, time.nanos))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
