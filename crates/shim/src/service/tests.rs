// SPDX-License-Identifier: Apache-2.0
use containerd_shim_protos::shim_async::{Client, TaskClient};
use protobuf::well_known_types::any::Any;
use ttrpc::context::Context;
use wedge_reaper::Reaper;
use wedge_task::{EventSink, Settings};

use super::*;
use crate::server::Server;

fn service() -> TaskService {
    let (sink, _) = EventSink::channel();
    TaskService::new(Sandbox::new("test".to_owned(), Reaper::new(), sink, Settings::default()))
}

async fn call(name: &str, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, (Code, String)> {
    let outcome = match service().dispatch(name, method, payload) {
        Ok(Call::Change(answer) | Call::Query(answer) | Call::Wait(answer)) => answer.await,
        Err(status) => Err(status),
    };
    outcome.map_err(|status| (status.code.unwrap(), status.message))
}

async fn v3(method: &str, request: &impl Message) -> Result<Vec<u8>, (Code, String)> {
    call("containerd.task.v3.Task", method, request.write_to_bytes().unwrap()).await
}

/// An id alone, which no container can have. Field 1 is the id in the request of every method.
fn just_id() -> Vec<u8> {
    api::PidsRequest { id: "no/such".to_owned(), ..Default::default() }.write_to_bytes().unwrap()
}

/// What each method says to a request with nothing but an id that no container can have.
const METHODS: [(&str, Code); 17] = [
    ("State", Code::NOT_FOUND),
    ("Create", Code::INVALID_ARGUMENT),
    ("Start", Code::NOT_FOUND),
    ("Delete", Code::NOT_FOUND),
    ("Pids", Code::NOT_FOUND),
    ("Pause", Code::NOT_FOUND),
    ("Resume", Code::NOT_FOUND),
    ("Checkpoint", Code::NOT_FOUND),
    ("Kill", Code::NOT_FOUND),
    ("Exec", Code::INVALID_ARGUMENT),
    ("ResizePty", Code::NOT_FOUND),
    ("CloseIO", Code::NOT_FOUND),
    ("Update", Code::INVALID_ARGUMENT),
    ("Wait", Code::NOT_FOUND),
    ("Stats", Code::NOT_FOUND),
    ("Connect", Code::OK),
    ("Shutdown", Code::OK),
];

#[tokio::test]
async fn both_versions_have_every_method() {
    for name in SERVICES {
        for (method, code) in METHODS {
            let outcome = call(name, method, just_id()).await;
            let seen = outcome.map_or_else(|(code, _)| code, |_| Code::OK);
            assert_eq!(seen, code, "{name} {method}");
        }
    }
}

#[tokio::test]
async fn other_methods_and_services_are_unimplemented() {
    let unknown = call(SERVICES[1], "Forward", just_id()).await;
    let text = "method Forward".to_owned();
    assert_eq!(unknown, Err((Code::UNIMPLEMENTED, text)));
    let sandbox = "containerd.runtime.sandbox.v1.Sandbox";
    let unknown = call(sandbox, "StartSandbox", Vec::new()).await;
    let text = format!("service {sandbox}");
    assert_eq!(unknown, Err((Code::UNIMPLEMENTED, text)));
}

/// What only looks is dropped with its client; everything else runs to its end.
#[test]
fn only_reads_may_be_dropped() {
    for method in ["State", "Pids", "Stats", "Connect"] {
        let call = service().dispatch(SERVICES[0], method, Vec::new());
        assert!(matches!(call, Ok(Call::Query(_))), "{method}");
    }
    let wait = service().dispatch(SERVICES[0], "Wait", Vec::new());
    assert!(matches!(wait, Ok(Call::Wait(_))));
    for method in ["Create", "Start", "Delete", "Exec", "Kill", "Pause", "Resume", "CloseIO"] {
        let call = service().dispatch(SERVICES[0], method, Vec::new());
        assert!(matches!(call, Ok(Call::Change(_))), "{method}");
    }
}

#[tokio::test]
async fn malformed_messages_are_invalid_arguments() {
    let (code, text) = call(SERVICES[1], "State", vec![0xff]).await.unwrap_err();
    assert_eq!(code, Code::INVALID_ARGUMENT);
    assert!(text.starts_with("ttrpc: error unmarshalling payload: "), "{text}");
}

/// Go's shim would take a nil dereference for some of these.
#[tokio::test]
async fn nonsense_is_an_invalid_argument() {
    let id = || "absent".to_owned();
    let foreign = Any { type_url: "containerd.events.TaskExit".to_owned(), ..Any::default() };
    let create =
        api::CreateTaskRequest { id: id(), options: Some(foreign).into(), ..Default::default() };
    let exec = api::ExecProcessRequest { id: id(), exec_id: id(), ..Default::default() };
    let update = api::UpdateTaskRequest { id: id(), ..Default::default() };
    let table = [
        ("Create", v3("Create", &create).await),
        ("Exec", v3("Exec", &exec).await),
        ("Update", v3("Update", &update).await),
    ];
    for (method, outcome) in table {
        let (code, text) = outcome.expect_err(method);
        assert_eq!(code, Code::INVALID_ARGUMENT, "{method}: {text}");
        assert!(text.ends_with(": invalid argument"), "{method}: {text}");
    }
}

#[tokio::test]
async fn connect_tells_our_pid_and_no_task() {
    let reply = call(SERVICES[0], "Connect", just_id()).await.unwrap();
    let reply = api::ConnectResponse::parse_from_bytes(&reply).unwrap();
    assert_eq!((reply.shim_pid, reply.task_pid), (std::process::id(), 0));
    assert_eq!(reply.version, "");
}

#[tokio::test]
async fn the_service_answers_over_its_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let mut server = tokio::task::JoinSet::new();
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    server.spawn(Server::new(service().sandbox).serve(listener));
    let stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    let client = TaskClient::new(Client::new(stream.into()));
    let request = api::ConnectRequest::new();
    let reply = client.connect(Context::default(), &request).await.unwrap();
    assert_eq!(reply.shim_pid, std::process::id());
}
