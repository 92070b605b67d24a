// SPDX-License-Identifier: Apache-2.0
use std::future::ready;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::time::TimeValLike;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use ttrpc::asynchronous::Client;
use ttrpc::proto::{Codec, GenMessage};

use super::*;

/// What the fake service saw.
#[derive(Debug, Default, Clone, Copy)]
struct Facts {
    started: u32,
    dropped: u32,
    changed: u32,
}

/// A service `t.Fake`: `Echo`; `Big` replies more than fits; `Wait` and `Change` end at the gate.
struct Fake {
    facts: watch::Sender<Facts>,
    gate: watch::Receiver<bool>,
}

struct CountDrop(watch::Sender<Facts>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.send_modify(|facts| facts.dropped += 1);
    }
}

impl Fake {
    fn at_gate(&self, done: impl FnOnce(&mut Facts) + Send + 'static) -> Answer {
        let (facts, mut gate) = (self.facts.clone(), self.gate.clone());
        Box::pin(async move {
            let guard = CountDrop(facts.clone());
            facts.send_modify(|facts| facts.started += 1);
            gate.wait_for(|open| *open).await.unwrap();
            facts.send_modify(done);
            std::mem::forget(guard);
            Ok(b"done".to_vec())
        })
    }
}

impl Dispatch for Fake {
    fn dispatch(&self, service: &str, method: &str, payload: Vec<u8>) -> Result<Call, Status> {
        match (service, method) {
            ("t.Fake", "Echo") => Ok(Call::Query(Box::pin(ready(Ok(payload))))),
            ("t.Fake", "Big") => Ok(Call::Query(Box::pin(ready(Ok(vec![0; MESSAGE_LENGTH_MAX]))))),
            ("t.Fake", "Wait") => Ok(Call::Wait(self.at_gate(|_| ()))),
            ("t.Fake", "Change") => Ok(Call::Change(self.at_gate(|facts| facts.changed += 1))),
            ("t.Fake", _) => Err(status::unknown_method(method)),
            _ => Err(status::unknown_service(service)),
        }
    }
}

/// A running server of the fake service.
struct Env {
    dir: TempDir,
    facts: watch::Receiver<Facts>,
    gate: watch::Sender<bool>,
    server: JoinSet<()>,
}

impl Env {
    fn new() -> Env {
        Env::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut Server)) -> Env {
        let dir = tempfile::tempdir().unwrap();
        let (facts, seen) = watch::channel(Facts::default());
        let (gate, gate_seen) = watch::channel(false);
        let mut server = Server::over(Arc::new(Fake { facts, gate: gate_seen }));
        change(&mut server);
        let listener = UnixListener::bind(dir.path().join("s")).unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(server.serve(listener));
        Env { dir, facts: seen, gate, server: tasks }
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.dir.path().join("s")).await.unwrap()
    }

    async fn client(&self) -> Client {
        Client::new(self.connect().await.into())
    }

    async fn until(&mut self, fact: impl FnMut(&Facts) -> bool) {
        soon(self.facts.wait_for(fact)).await.unwrap();
    }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("in time")
}

fn request(service: &str, method: &str, payload: &[u8]) -> Request {
    Request {
        service: service.to_owned(),
        method: method.to_owned(),
        payload: payload.to_vec(),
        ..Request::default()
    }
}

fn timed(method: &str, timeout_nano: i64) -> Request {
    let request = request("t.Fake", method, b"");
    Request { timeout_nano, ..request }
}

async fn call(client: &Client, request: Request) -> Result<Vec<u8>, (Code, String)> {
    match soon(client.request(request)).await {
        Ok(response) => Ok(response.payload),
        Err(ttrpc::Error::RpcStatus(status)) => Err(parts(&status)),
        Err(other) => panic!("{other}"),
    }
}

fn parts(status: &Status) -> (Code, String) {
    (status.code.unwrap(), status.message.clone())
}

fn frame(stream_id: u32, type_: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len().try_into().unwrap();
    let mut bytes = Vec::from(MessageHeader { length, stream_id, type_, flags });
    bytes.extend_from_slice(payload);
    bytes
}

async fn ask(stream: &mut UnixStream, stream_id: u32, request: &Request) {
    let bytes = frame(stream_id, MESSAGE_TYPE_REQUEST, 0, &request.encode().unwrap());
    soon(stream.write_all(&bytes)).await.unwrap();
}

async fn ask_echo(stream: &mut UnixStream, stream_id: u32) {
    ask(stream, stream_id, &request("t.Fake", "Echo", b"hello")).await;
}

async fn receive(stream: &mut UnixStream) -> (u32, Response) {
    let message = soon(GenMessage::read_from(stream)).await.unwrap();
    (message.header.stream_id, Response::decode(message.payload).unwrap())
}

async fn receive_error(stream: &mut UnixStream, stream_id: u32) -> (Code, String) {
    let (id, response) = receive(stream).await;
    assert_eq!(id, stream_id);
    parts(response.status())
}

async fn receive_echo(stream: &mut UnixStream, stream_id: u32) {
    let (id, response) = receive(stream).await;
    assert_eq!((id, response.payload.as_slice()), (stream_id, b"hello".as_slice()));
    assert!(response.status.is_none());
}

#[tokio::test]
async fn answers_and_refuses_as_go_does() {
    let env = Env::new();
    let client = env.client().await;
    assert_eq!(call(&client, request("t.Fake", "Echo", b"hi")).await, Ok(b"hi".to_vec()));
    let unknown = call(&client, request("a.B", "C", b"")).await;
    assert_eq!(unknown, Err((Code::UNIMPLEMENTED, "service a.B".to_owned())));
    let unknown = call(&client, request("t.Fake", "C", b"")).await;
    assert_eq!(unknown, Err((Code::UNIMPLEMENTED, "method C".to_owned())));
    let big = call(&client, request("t.Fake", "Big", b"")).await;
    assert_eq!(big.unwrap_err().0, Code::RESOURCE_EXHAUSTED);
}

#[tokio::test]
async fn a_request_does_not_wait_for_another() {
    let mut env = Env::new();
    let client = env.client().await;
    let wait = client.request(request("t.Fake", "Wait", b""));
    let others = async {
        env.until(|facts| facts.started == 1).await;
        assert_eq!(call(&client, request("t.Fake", "Echo", b"hi")).await, Ok(b"hi".to_vec()));
        env.gate.send_replace(true);
    };
    let (waited, ()) = soon(async { tokio::join!(wait, others) }).await;
    assert_eq!(waited.unwrap().payload, b"done");
}

#[tokio::test]
async fn a_long_message_is_refused_and_the_connection_goes_on() {
    let env = Env::new();
    let mut stream = env.connect().await;
    let long = vec![0; MESSAGE_LENGTH_MAX + 1];
    soon(stream.write_all(&frame(1, MESSAGE_TYPE_REQUEST, 0, &long))).await.unwrap();
    let text = "message length 4194305 exceed maximum message size of 4194304".to_owned();
    assert_eq!(receive_error(&mut stream, 1).await, (Code::RESOURCE_EXHAUSTED, text));
    ask_echo(&mut stream, 1).await;
    receive_echo(&mut stream, 1).await;
}

#[tokio::test]
async fn wrong_frames_are_answered_on_their_stream() {
    let env = Env::new();
    let mut stream = env.connect().await;
    let good = request("t.Fake", "Echo", b"").encode().unwrap();
    let good = good.as_slice();
    let (ask, data, open) = (MESSAGE_TYPE_REQUEST, MESSAGE_TYPE_DATA, FLAG_REMOTE_OPEN);
    let table = [
        (2, ask, 0, good, "StreamID must be odd"),
        (0, ask, 0, good, "StreamID must be odd"),
        (3, data, 0, b"x", "StreamID is no longer active"),
        (5, ask, 0, b"\xff\xff", "unmarshal request error"),
        (5, ask, 0, good, "StreamID cannot be re-used"),
        (3, ask, 0, good, "StreamID cannot be re-used"),
        (7, ask, open, good, "does not stream"),
    ];
    for (stream_id, type_, flags, payload, text) in table {
        let bytes = frame(stream_id, type_, flags, payload);
        stream.write_all(&bytes).await.unwrap();
        let (code, message) = receive_error(&mut stream, stream_id).await;
        assert_eq!(code, Code::INVALID_ARGUMENT, "{message}");
        assert!(message.contains(text), "{message}: want {text}");
    }
}

#[tokio::test]
async fn unknown_frame_types_are_left_alone_for_protocols_to_come() {
    let env = Env::new();
    let mut stream = env.connect().await;
    stream.write_all(&frame(9, 9, 0, b"x")).await.unwrap();
    ask_echo(&mut stream, 9).await;
    receive_echo(&mut stream, 9).await;
}

#[tokio::test]
async fn a_deadline_ends_a_query_but_not_a_change() {
    let mut env = Env::new();
    let client = env.client().await;
    let text = "context deadline exceeded".to_owned();
    let late = (Code::DEADLINE_EXCEEDED, text);
    // The client of the ttrpc crate gives up by itself, so the frames are raw.
    let mut stream = env.connect().await;
    for (stream_id, method) in [(1, "Wait"), (3, "Change")] {
        ask(&mut stream, stream_id, &timed(method, 20_000_000)).await;
        assert_eq!(receive_error(&mut stream, stream_id).await, late);
    }
    env.until(|facts| facts.started == 2 && facts.dropped == 1).await;
    env.gate.send_replace(true);
    env.until(|facts| facts.changed == 1 && facts.dropped == 1).await;
    let in_time = call(&client, timed("Wait", 10_000_000_000)).await;
    assert_eq!(in_time, Ok(b"done".to_vec()));
}

#[tokio::test]
async fn a_deadline_that_has_passed_starts_nothing() {
    let env = Env::new();
    let mut stream = env.connect().await;
    ask(&mut stream, 1, &timed("Change", -1)).await;
    let (code, _) = receive_error(&mut stream, 1).await;
    assert_eq!(code, Code::DEADLINE_EXCEEDED);
    assert_eq!(env.facts.borrow().started, 0);
}

#[tokio::test]
async fn a_lost_client_ends_its_queries_but_not_its_changes() {
    let mut env = Env::new();
    let mut stream = env.connect().await;
    for (stream_id, method) in [(1, "Wait"), (3, "Wait"), (5, "Change")] {
        ask(&mut stream, stream_id, &request("t.Fake", method, b"")).await;
    }
    env.until(|facts| facts.started == 3).await;
    drop(stream);
    env.until(|facts| facts.dropped == 2).await;
    env.gate.send_replace(true);
    env.until(|facts| facts.changed == 1 && facts.dropped == 2).await;
}

/// A Go client that gives a Wait up says nothing.
#[tokio::test]
async fn abandoned_waits_refuse_only_further_waits() {
    let mut env = Env::new();
    let mut stream = env.connect().await;
    let most = u32::try_from(MAX_IN_FLIGHT).unwrap();
    let mut stream_ids = (1..).step_by(2);
    let mut next = || stream_ids.next().unwrap();
    for _ in 0..most {
        ask(&mut stream, next(), &request("t.Fake", "Wait", b"")).await;
    }
    let refused = next();
    ask(&mut stream, refused, &request("t.Fake", "Wait", b"")).await;
    let (code, text) = receive_error(&mut stream, refused).await;
    assert_eq!(code, Code::RESOURCE_EXHAUSTED, "{text}");
    let looks = next();
    ask_echo(&mut stream, looks).await;
    receive_echo(&mut stream, looks).await;
    ask(&mut stream, next(), &request("t.Fake", "Change", b"")).await;
    env.until(|facts| facts.started == most + 1).await;
    drop(stream);
    env.until(|facts| facts.dropped == most).await;
    env.gate.send_replace(true);
    env.until(|facts| facts.changed == 1).await;
}

#[tokio::test]
async fn dropping_the_server_ends_everything() {
    let mut env = Env::new();
    let mut stream = env.connect().await;
    ask(&mut stream, 1, &request("t.Fake", "Change", b"")).await;
    env.until(|facts| facts.started == 1).await;
    env.server.abort_all();
    env.until(|facts| facts.dropped == 1).await;
    assert_eq!(soon(stream.read(&mut [0; 1])).await.unwrap(), 0);
}

#[tokio::test]
async fn a_peer_of_another_user_or_group_is_turned_away() {
    for (uid, gid) in [(1, 0), (0, 1)] {
        let env = Env::with(|server| server.owner = (server.owner.0 + uid, server.owner.1 + gid));
        let mut stream = env.connect().await;
        assert_eq!(soon(stream.read(&mut [0; 1])).await.unwrap(), 0);
    }
}

/// One process per test (nextest) keeps the limit away from the others.
#[tokio::test]
async fn running_out_of_descriptors_neither_spins_nor_ends_the_server() {
    let env = Env::new();
    // No await before the limit is set: the server must not have run yet.
    let stream = std::os::unix::net::UnixStream::connect(env.dir.path().join("s")).unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut stream = UnixStream::from_std(stream).unwrap();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let lowest_free = std::fs::File::open("/dev/null").unwrap();
    let taken = std::os::fd::AsRawFd::as_raw_fd(&lowest_free).try_into().unwrap();
    drop(lowest_free);
    setrlimit(Resource::RLIMIT_NOFILE, taken, hard).unwrap();
    ask_echo(&mut stream, 1).await;
    let before = cpu_milliseconds();
    let window = Duration::from_millis(500);
    let starved = tokio::time::timeout(window, GenMessage::read_from(&mut stream)).await;
    assert!(starved.is_err(), "there was no descriptor to accept with");
    let used = cpu_milliseconds() - before;
    assert!(used < 250, "{used} ms of CPU in {window:?}");
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    receive_echo(&mut stream, 1).await;
}

fn cpu_milliseconds() -> i64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    usage.user_time().num_milliseconds() + usage.system_time().num_milliseconds()
}
