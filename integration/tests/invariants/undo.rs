// SPDX-License-Identifier: Apache-2.0
//! I6: a failed or cancelled operation leaves the state as it was, and nothing behind.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use protobuf::Message;
use wedge_integration::fake_runtime::{Pause, Step};
use wedge_integration::proc::{FdKind, Proc};
use wedge_integration::protos::api::{CreateTaskRequest, Mount, StartRequest, Status};
use wedge_integration::rpc::{Code, RpcError, assert_refused};
use wedge_integration::{Process, Rig, ShimUnderTest, Spec, Stdio, TASK_V2, payload, wait};

use crate::{NEVER, kill_and_reap};

/// Create fails with `text` and leaves nothing; then the same id can be used.
fn create_fails(rig: Rig, request: &CreateTaskRequest, text: &str) -> Result<()> {
    let before = rig.footprint()?;
    let error = rig.shim.create_with(request).err().context("Create has succeeded")?;
    assert!(error.to_string().contains(text), "{error}");
    rig.unchanged_since(&before)?;
    let gone = "container not created: not found";
    assert_refused(rig.shim.state(rig.id(), ""), Code::NOT_FOUND, gone);
    assert_eq!(rig.lab.events().log().story(rig.id()), [""; 0]);
    rig.script().script("create", Step::default())?;
    rig.end()
}

/// A Create request with a file system to mount.
fn request(rig: &Rig, stdio: &Stdio) -> CreateTaskRequest {
    let tmpfs = Mount { type_: "tmpfs".to_owned(), source: "tmpfs".to_owned(), ..Mount::default() };
    CreateTaskRequest { rootfs: vec![tmpfs], ..rig.shim.create_request(&rig.bundle, stdio) }
}

#[test]
fn i6_a_create_whose_mount_fails_leaves_nothing() -> Result<()> {
    let rig = Rig::fake()?;
    let mut request = request(&rig, &Stdio::null());
    let missing = Mount { type_: "no-such-fs".to_owned(), ..Mount::default() };
    request.rootfs.push(missing);
    create_fails(rig, &request, "failed to mount rootfs component")
}

#[test]
fn i6_a_create_whose_streams_fail_leaves_nothing() -> Result<()> {
    if ShimUnderTest::skips_go("it leaves the container")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    let good = rig.lab.fifos("good")?;
    let stdio = Stdio { stderr: "/no/such/fifo".to_owned(), ..good.stdio().clone() };
    let request = request(&rig, &stdio);
    create_fails(rig, &request, "/no/such/fifo")
}

#[test]
fn i6_a_create_whose_runtime_fails_leaves_nothing() -> Result<()> {
    let rig = Rig::fake()?;
    rig.script().script("create", Step::failing("no luck"))?;
    let io = rig.lab.fifos("init")?;
    let request = request(&rig, io.stdio());
    create_fails(rig, &request, "OCI runtime create failed: no luck")
}

#[test]
fn i6_a_create_whose_runtime_is_killed_leaves_nothing() -> Result<()> {
    if ShimUnderTest::skips_go("it leaves the container of a runtime that was killed")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    rig.script().script("create", Step { killed: true, ..Step::default() })?;
    let io = rig.lab.fifos("init")?;
    let request = request(&rig, io.stdio());
    create_fails(rig, &request, "OCI runtime create failed: ")
}

#[test]
fn i6_a_create_without_a_pid_file_leaves_nothing() -> Result<()> {
    if ShimUnderTest::skips_go("it leaves the container")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    rig.script().script("create", Step { no_pid_file: true, ..Step::default() })?;
    let io = rig.lab.fifos("init")?;
    let request = request(&rig, io.stdio());
    create_fails(rig, &request, "failed to retrieve OCI runtime container pid: open ")
}

/// Half a minute: as long as a runtime may take to send a terminal.
#[test]
fn i6_a_terminal_that_never_comes_leaves_nothing() -> Result<()> {
    if ShimUnderTest::skips_go("it waits for ever")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    rig.run()?;
    let silent = Step { no_console: true, ..Step::default() };
    let other = rig.lab.bundle("other", &Spec::new([payload::PATH, "pause"]))?;
    rig.lab.fake(&other).script("create", silent.clone())?;
    rig.script().script("exec", silent)?;
    let (init, exec) = (rig.lab.terminal("init")?, rig.lab.terminal("exec")?);
    rig.shim.exec(rig.id(), "e1", &Process::new(["sleep", "1000"]), exec.stdio())?;
    rig.story_until("exec-added")?;
    let before = rig.footprint()?;
    let create = rig.shim.create_request(&other, init.stdio()).write_to_bytes()?;
    let start = StartRequest { id: rig.id().into(), exec_id: "e1".into(), ..Default::default() };
    let start = start.write_to_bytes()?;
    let limit = Duration::from_secs(50);
    let (created, started) = thread::scope(|scope| {
        let create = scope.spawn(|| rig.shim.raw_within(limit, TASK_V2, "Create", &create));
        (rig.shim.raw_within(limit, TASK_V2, "Start", &start), create.join().unwrap())
    });
    let text = "failed to retrieve console master: nothing received within 30s";
    assert_refused(created, Code::UNKNOWN, text);
    assert_refused(started, Code::UNKNOWN, text);
    rig.unchanged_since(&before)?;
    rig.end()
}

#[test]
fn i6_a_failing_start_can_be_repeated() -> Result<()> {
    let rig = Rig::fake()?;
    let pid = rig.create()?;
    rig.script().script("start", Step::failing("not today"))?;
    let text = "OCI runtime start failed: not today";
    assert_refused(rig.shim.start(rig.id(), ""), Code::UNKNOWN, text);
    assert_eq!(rig.shim.state(rig.id(), "")?.status.enum_value(), Ok(Status::CREATED));
    rig.script().script("start", Step::default())?;
    assert_eq!(rig.shim.start(rig.id(), "")?, pid);
    assert_eq!(rig.story_until("start")?, ["create", "start"]);
    rig.end()
}

#[test]
fn i6_a_container_whose_start_failed_can_be_deleted() -> Result<()> {
    if ShimUnderTest::skips_go("Delete of a created container takes ten seconds")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    rig.create()?;
    rig.script().script("start", Step::failing("not today"))?;
    rig.shim.start(rig.id(), "").unwrap_err();
    assert_eq!(rig.shim.delete(rig.id(), "")?.status, 137);
    assert_eq!(rig.story_until("delete")?, ["create", "exit 137", "delete 137"]);
    rig.close()
}

/// The OCI runtime kills its init when start fails: an exit without a start.
#[test]
fn i6_a_start_that_fails_because_init_ends_leaves_a_stopped_container() -> Result<()> {
    let rig = Rig::fake()?;
    let init = rig.create()?;
    let gate = rig.script().gate("start", "before");
    let before = Pause { wait_for: Some(gate.path()), ..Pause::default() };
    let fail = Some("init died".to_owned());
    rig.script().script("start", Step { before, fail, ..Step::default() })?;
    thread::scope(|scope| {
        let start = scope.spawn(|| rig.shim.start(rig.id(), ""));
        rig.script().wait_call("start")?;
        kill_and_reap(init)?;
        gate.open()?;
        let text = "OCI runtime start failed: init died";
        assert_refused(start.join().unwrap(), Code::UNKNOWN, text);
        anyhow::Ok(())
    })?;
    assert_eq!(rig.story_until("exit")?, ["create", "exit 137"]);
    assert_eq!(rig.shim.wait(rig.id(), "")?.status, 137);
    rig.retire()
}

/// A failed start of an exec: Wait returns, Start can be repeated, Delete works, and init's exit
/// still arrives (the counter of running execs is right).
fn exec_start_fails(step: Step, text: &str) -> Result<()> {
    let rig = Rig::fake()?;
    let init = rig.run()?;
    rig.script().script("exec", step)?;
    let io = rig.lab.fifos("exec")?;
    rig.shim.exec(rig.id(), "e1", &Process::new(["sleep", "1000"]), io.stdio())?;
    rig.story_until("exec-added")?;
    let before = rig.shim.proc().fds()?.len();
    let error = rig.shim.start(rig.id(), "e1").err().context("Start has succeeded")?;
    assert!(error.to_string().contains(text), "{error}");
    let waited = rig.shim.wait(rig.id(), "e1")?;
    assert_eq!((waited.status, waited.at), (0, NEVER));
    wait::until("the descriptors are closed", || {
        let now = rig.shim.proc().fds()?;
        ensure!(now.len() == before, "{before} before, now {now}");
        Ok(())
    })?;
    rig.script().script("exec", Step::default())?;
    rig.shim.start(rig.id(), "e1")?;
    rig.shim.kill(rig.id(), "e1", 9, false)?;
    assert_eq!(rig.shim.wait(rig.id(), "e1")?.status, 137);
    assert_eq!(rig.shim.delete(rig.id(), "e1")?.status, 137);
    Proc(init).signal(Signal::SIGKILL)?;
    let story = rig.story_until("exit 137")?;
    let mine = ["exec-added e1", "exec-started e1", "exit e1 137", "exit 137"];
    assert_eq!(story.get(2..).unwrap_or_default(), mine);
    rig.end()
}

#[test]
fn i6_an_exec_whose_runtime_fails_can_be_started_again() -> Result<()> {
    if ShimUnderTest::skips_go("a second Start closes a closed channel, and the shim dies")? {
        return Ok(());
    }
    exec_start_fails(Step::failing("not today"), "OCI runtime exec failed: not today")
}

#[test]
fn i6_an_exec_without_a_pid_file_can_be_started_again() -> Result<()> {
    if ShimUnderTest::skips_go("a second Start closes a closed channel, and the shim dies")? {
        return Ok(());
    }
    let text = "failed to retrieve OCI runtime exec pid: open ";
    exec_start_fails(Step { no_pid_file: true, ..Step::default() }, text)
}

#[test]
fn i6_an_exec_whose_runtime_is_killed_can_be_started_again() -> Result<()> {
    if ShimUnderTest::skips_go("a second Start closes a closed channel, and the shim dies")? {
        return Ok(());
    }
    exec_start_fails(Step { killed: true, ..Step::default() }, "OCI runtime exec failed: ")
}

#[test]
fn i6_an_exec_whose_start_failed_can_be_deleted() -> Result<()> {
    let rig = Rig::fake()?;
    let init = rig.run()?;
    rig.script().script("exec", Step::failing("not today"))?;
    rig.add("e1", ["true"])?;
    rig.shim.start(rig.id(), "e1").unwrap_err();
    assert_eq!(rig.shim.delete(rig.id(), "e1")?.status, 0);
    Proc(init).signal(Signal::SIGKILL)?;
    assert_eq!(rig.story_until("exit 137")?, ["create", "start", "exec-added e1", "exit 137"]);
    rig.end()
}

/// The client goes away while `command` hangs; the operation goes on to its end.
fn abandoned<M: Message>(rig: &Rig, command: &str, method: &str, request: &M) -> Result<()> {
    let gate = rig.script().hold_before(command)?;
    let shim = rig.shim.reconnect()?;
    shim.client().send(TASK_V2, method, request)?;
    rig.script().wait_call(command)?;
    let sockets = rig.shim.proc().fds()?.count(FdKind::Socket);
    drop(shim);
    wait::until("the shim has seen the client go", || {
        let now = rig.shim.proc().fds()?.count(FdKind::Socket);
        ensure!(now < sockets, "{now} sockets");
        Ok(())
    })?;
    gate.open()?;
    rig.script().wait_returned(command)
}

#[test]
fn i6_a_client_that_goes_away_does_not_stop_what_it_asked_for() -> Result<()> {
    if ShimUnderTest::skips_go("it kills the runtime then")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    let create = rig.shim.create_request(&rig.bundle, &Stdio::null());
    abandoned(&rig, "create", "Create", &create)?;
    rig.story_until("create")?;
    rig.shim.start(rig.id(), "")?;
    rig.add("e1", ["sleep", "1000"])?;
    let start = StartRequest { id: rig.id().into(), exec_id: "e1".into(), ..Default::default() };
    abandoned(&rig, "exec", "Start", &start)?;
    rig.story_until("exec-started e1")?;
    rig.shim.kill(rig.id(), "e1", 9, false)?;
    rig.story_until("exit e1 137")?;
    rig.end()
}

#[test]
fn i6_a_client_that_is_out_of_time_does_not_stop_what_it_asked_for() -> Result<()> {
    if ShimUnderTest::skips_go("it kills the runtime then")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    let gate = rig.script().hold_before("create")?;
    let create = rig.shim.create_request(&rig.bundle, &Stdio::null()).write_to_bytes()?;
    let limit = Duration::from_millis(300);
    let created = rig.shim.raw_within(limit, TASK_V2, "Create", &create);
    assert!(matches!(created, Err(RpcError::Timeout | RpcError::Status { .. })), "{created:?}");
    gate.open()?;
    rig.story_until("create")?;
    rig.shim.start(rig.id(), "")?;
    rig.end()
}
