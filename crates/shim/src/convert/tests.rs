// SPDX-License-Identifier: Apache-2.0
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use protobuf::MessageFull;
use wedge_reaper::ExitStatus;

use super::*;

fn c() -> String {
    "c".to_owned()
}

fn e() -> String {
    "e".to_owned()
}

fn stdio() -> wedge_stdio::Request {
    wedge_stdio::Request {
        terminal: true,
        stdin: "/in".to_owned(),
        stdout: "/out".to_owned(),
        stderr: "/err".to_owned(),
    }
}

fn mount() -> wedge_oci::Mount {
    wedge_oci::Mount {
        fs_type: "overlay".to_owned(),
        source: "overlay".to_owned(),
        target: "/sub".to_owned(),
        options: vec!["lowerdir=/a:/b".to_owned(), "ro".to_owned()],
    }
}

fn exit() -> Exit {
    Exit { pid: 42, status: ExitStatus::KILLED, at: UNIX_EPOCH + Duration::new(1_700_000_000, 5) }
}

fn exited_at() -> MessageField<Timestamp> {
    let stamp = Timestamp { seconds: 1_700_000_000, nanos: 5, ..Default::default() };
    MessageField::some(stamp)
}

fn zero() -> MessageField<Timestamp> {
    let stamp = Timestamp { seconds: -62_135_596_800, nanos: 0, ..Default::default() };
    MessageField::some(stamp)
}

#[test]
fn never_is_go_s_zero_time_on_the_wire() {
    let bytes = wait_response(None).write_to_bytes().unwrap();
    // Field 2, 11 bytes: field 1, varint of −62135596800. No exit status, no nanos.
    let want = [0x12, 0x0b, 0x08, 0x80, 0x92, 0xb8, 0xc3, 0x98, 0xfe, 0xff, 0xff, 0xff, 0x01];
    assert_eq!(bytes, want);
}

#[test]
fn exits_and_their_absence_in_replies() {
    let reply = wait_response(Some(exit()));
    assert_eq!((reply.exit_status, &reply.exited_at), (137, &exited_at()));
    let reply = delete_response(&Deleted { pid: 42, exit: Some(exit()) });
    assert_eq!((reply.pid, reply.exit_status, &reply.exited_at), (42, 137, &exited_at()));
    let reply = delete_response(&Deleted { pid: 0, exit: None });
    assert_eq!((reply.pid, reply.exit_status, &reply.exited_at), (0, 0, &zero()));
}

#[test]
fn state_has_every_field_but_the_exec_id() {
    let state = |status, exit| ProcessState {
        id: "e".to_owned(),
        bundle: PathBuf::from("/run/b"),
        pid: 7,
        status,
        stdio: stdio(),
        exit,
    };
    let table = [
        (Status::Created, types::Status::CREATED),
        (Status::Running, types::Status::RUNNING),
        (Status::Stopped, types::Status::STOPPED),
        (Status::Paused, types::Status::PAUSED),
        (Status::Pausing, types::Status::PAUSING),
    ];
    for (domain, wire) in table {
        let reply = state_response(state(domain, None));
        assert_eq!(reply.status.unwrap(), wire);
        assert_eq!((reply.exit_status, &reply.exited_at), (0, &zero()));
    }
    let want = api::StateResponse {
        id: "e".to_owned(),
        bundle: "/run/b".to_owned(),
        pid: 7,
        status: types::Status::STOPPED.into(),
        stdin: "/in".to_owned(),
        stdout: "/out".to_owned(),
        stderr: "/err".to_owned(),
        terminal: true,
        exit_status: 137,
        exited_at: exited_at(),
        ..Default::default()
    };
    assert_eq!(state_response(state(Status::Stopped, Some(exit()))), want);
}

#[test]
fn a_create_request_becomes_the_domain_s() {
    let request = create_request(
        api::CreateTaskRequest {
            id: "c".to_owned(),
            bundle: "/run/b".to_owned(),
            rootfs: vec![mount_to(mount())],
            terminal: true,
            stdin: "/in".to_owned(),
            stdout: "/out".to_owned(),
            stderr: "/err".to_owned(),
            checkpoint: "/cp".to_owned(),
            ..Default::default()
        },
        wedge_oci::Options { root: "/r".to_owned(), ..Default::default() },
    );
    assert_eq!((request.id.as_str(), request.bundle), ("c", PathBuf::from("/run/b")));
    assert_eq!(request.rootfs, [mount()]);
    assert_eq!(request.stdio, stdio());
    assert_eq!((request.checkpoint.as_str(), request.options.root.as_str()), ("/cp", "/r"));
}

#[test]
fn an_exec_request_carries_its_process_as_it_came() {
    let spec = Any { value: b"{\"args\":[]}".to_vec(), ..Default::default() };
    let request = exec_request(
        api::ExecProcessRequest {
            id: "c".to_owned(),
            exec_id: "e".to_owned(),
            terminal: true,
            stdin: "/in".to_owned(),
            stdout: "/out".to_owned(),
            stderr: "/err".to_owned(),
            ..Default::default()
        },
        spec,
    );
    assert_eq!((request.id.as_str(), request.exec_id.as_str()), ("c", "e"));
    assert_eq!(request.stdio, stdio());
    assert_eq!(request.process, b"{\"args\":[]}");
}

#[test]
fn pids_of_execs_carry_their_exec_id() {
    let reply = pids_response(vec![(1, None), (2, Some("e".to_owned()))]).unwrap();
    let [init, exec] = reply.processes.as_slice() else { panic!("{reply}") };
    assert_eq!((init.pid, init.info.is_none()), (1, true));
    assert_eq!((exec.pid, exec.info.type_url.as_str()), (2, "containerd.runc.v1.ProcessDetails"));
    let details = ProcessDetails::parse_from_bytes(&exec.info.value).unwrap();
    assert_eq!(details.exec_id, "e");
}

/// Checks topic and bare type name of `event` and that it decodes to `want`.
fn check<M: MessageFull + PartialEq>(event: Event, topic: &str, want: &M) {
    let (seen, any) = super::event(event).unwrap();
    assert_eq!(seen, topic);
    assert_eq!(any.type_url, M::descriptor().full_name(), "no host, the whole name");
    assert_eq!(&M::parse_from_bytes(&any.value).unwrap(), want);
}

#[test]
fn create_has_rootfs_and_streams() {
    let container_id = "c".to_owned();
    let event = Event::Create {
        container_id: container_id.clone(),
        bundle: PathBuf::from("/run/b"),
        rootfs: vec![mount()],
        stdio: stdio(),
        checkpoint: String::new(),
        pid: 42,
    };
    let io = events::TaskIO {
        stdin: "/in".to_owned(),
        stdout: "/out".to_owned(),
        stderr: "/err".to_owned(),
        terminal: true,
        ..Default::default()
    };
    let want = events::TaskCreate {
        container_id,
        bundle: "/run/b".to_owned(),
        rootfs: vec![mount_to(mount())],
        io: MessageField::some(io),
        pid: 42,
        ..Default::default()
    };
    check(event, "/tasks/create", &want);
}

#[test]
fn events_of_starts() {
    let (container_id, exec_id) = (c(), e());
    let event = Event::Start { container_id, pid: 42 };
    let want = events::TaskStart { container_id: c(), pid: 42, ..Default::default() };
    check(event, "/tasks/start", &want);
    let container_id = c();
    let event = Event::ExecAdded { container_id, exec_id };
    let want = events::TaskExecAdded { container_id: c(), exec_id: e(), ..Default::default() };
    check(event, "/tasks/exec-added", &want);
    let (container_id, exec_id) = (c(), e());
    let event = Event::ExecStarted { container_id, exec_id, pid: 42 };
    let (container_id, exec_id) = (c(), e());
    let want = events::TaskExecStarted { container_id, exec_id, pid: 42, ..Default::default() };
    check(event, "/tasks/exec-started", &want);
}

#[test]
fn events_of_ends() {
    let (container_id, id) = (c(), e());
    let event = Event::Exit { container_id, id, exit: exit() };
    let want = events::TaskExit {
        container_id: c(),
        id: e(),
        pid: 42,
        exit_status: 137,
        exited_at: exited_at(),
        ..Default::default()
    };
    check(event, "/tasks/exit", &want);
    let table = [(Some(exit()), 137, exited_at()), (None, 0, zero())];
    for (exit, exit_status, exited_at) in table {
        let container_id = c();
        let want = events::TaskDelete {
            container_id,
            pid: 42,
            exit_status,
            exited_at,
            ..Default::default()
        };
        let container_id = c();
        check(Event::Delete { container_id, pid: 42, exit }, "/tasks/delete", &want);
    }
}

#[test]
fn events_of_tasks() {
    let container_id = c();
    let want = events::TaskOOM { container_id, ..Default::default() };
    check(Event::Oom { container_id: c() }, "/tasks/oom", &want);
    let container_id = c();
    let want = events::TaskPaused { container_id, ..Default::default() };
    check(Event::Paused { container_id: c() }, "/tasks/paused", &want);
    let container_id = c();
    let want = events::TaskResumed { container_id, ..Default::default() };
    check(Event::Resumed { container_id: c() }, "/tasks/resumed", &want);
}
