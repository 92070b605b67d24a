// SPDX-License-Identifier: Apache-2.0
//! State × operation, and Delete.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use wedge_integration::protos::api::Status;
use wedge_integration::rpc::{Code, RpcError, assert_refused};
use wedge_integration::{Fifos, Process, Rig, ShimUnderTest, Stdio, TASK_V2, TASK_V3, wait};

use crate::{NEVER, seen};

/// An operation that must be refused with class Unknown and exactly `text`.
fn denied(rig: &Rig, exec_id: &str, op: &str, text: &str) -> Result<()> {
    let (shim, id) = (&rig.shim, rig.id());
    let result = match op {
        "start" => shim.start(id, exec_id).map(drop),
        "delete" => shim.delete(id, exec_id).map(drop),
        "pause" => shim.pause(id),
        "resume" => shim.resume(id),
        "exec" => rig.add("another", ["true"]),
        "resize" => shim.resize_pty(id, exec_id, 80, 24),
        other => bail!("unknown operation {other}"),
    };
    assert_refused(result, Code::UNKNOWN, text);
    Ok(())
}

#[test]
fn an_init_can_do_what_its_state_allows() -> Result<()> {
    let rig = Rig::runc()?;
    let status = || Ok::<_, RpcError>(seen(&rig.shim.state(rig.id(), "")?));
    rig.create()?;
    assert_eq!(status()?, (Status::CREATED, 0, NEVER));
    denied(&rig, "", "pause", "cannot pause task in created state")?;
    denied(&rig, "", "resume", "cannot resume task in created state")?;
    rig.shim.start(rig.id(), "")?;
    assert_eq!(status()?, (Status::RUNNING, 0, NEVER));
    denied(&rig, "", "start", "cannot start a running process")?;
    denied(&rig, "", "delete", "cannot delete a running process")?;
    denied(&rig, "", "resume", "cannot resume a running process")?;
    rig.shim.pause(rig.id())?;
    assert_eq!(status()?, (Status::PAUSED, 0, NEVER));
    denied(&rig, "", "start", "cannot start a paused process")?;
    denied(&rig, "", "delete", "cannot delete a paused process")?;
    denied(&rig, "", "pause", "cannot pause a paused container")?;
    denied(&rig, "", "exec", "cannot exec in a paused state")?;
    rig.shim.resume(rig.id())?;
    assert_eq!(status()?, (Status::RUNNING, 0, NEVER));
    rig.shim.kill(rig.id(), "", 9, false)?;
    let exited = rig.shim.wait(rig.id(), "")?;
    assert_eq!(status()?, (Status::STOPPED, 137, exited.at.context("no time")?.0));
    denied(&rig, "", "start", "cannot start a stopped process")?;
    denied(&rig, "", "pause", "cannot pause a stopped container")?;
    denied(&rig, "", "resume", "cannot resume a stopped container")?;
    denied(&rig, "", "exec", "cannot exec in a stopped state")?;
    let finished = "process already finished: not found";
    assert_refused(rig.shim.kill(rig.id(), "", 9, false), Code::NOT_FOUND, finished);
    assert_eq!(rig.shim.delete(rig.id(), "")?.at, exited.at);
    let gone = "container not created: not found";
    assert_refused(rig.shim.delete(rig.id(), ""), Code::NOT_FOUND, gone);
    assert_refused(rig.shim.kill(rig.id(), "", 9, false), Code::NOT_FOUND, gone);
    assert_refused(rig.shim.state(rig.id(), ""), Code::NOT_FOUND, gone);
    rig.close()
}

#[test]
fn an_exec_can_do_what_its_state_allows() -> Result<()> {
    let rig = Rig::runc()?;
    rig.run()?;
    let status = || Ok::<_, RpcError>(seen(&rig.shim.state(rig.id(), "e1")?));
    rig.add("e1", ["sleep", "1000"])?;
    assert_eq!(status()?, (Status::CREATED, 0, NEVER));
    let early = "process not created: failed precondition";
    let kill = rig.shim.kill(rig.id(), "e1", 9, false);
    assert_refused(kill, Code::FAILED_PRECONDITION, early);
    rig.shim.resize_pty(rig.id(), "e1", 80, 24)?;
    rig.shim.start(rig.id(), "e1")?;
    assert_eq!(status()?, (Status::RUNNING, 0, NEVER));
    denied(&rig, "e1", "start", "cannot start a running process")?;
    denied(&rig, "e1", "delete", "cannot delete a running process")?;
    rig.shim.resize_pty(rig.id(), "e1", 80, 24)?;
    rig.shim.kill(rig.id(), "e1", 15, false)?;
    let exited = rig.shim.wait(rig.id(), "e1")?;
    assert_eq!(status()?, (Status::STOPPED, 143, exited.at.context("no time")?.0));
    denied(&rig, "e1", "start", "cannot start a stopped process")?;
    denied(&rig, "e1", "resize", "cannot resize a stopped container")?;
    let finished = "process already finished: not found";
    assert_refused(rig.shim.kill(rig.id(), "e1", 9, false), Code::NOT_FOUND, finished);
    assert_eq!(rig.shim.delete(rig.id(), "e1")?.status, 143);
    let gone = "process does not exist e1: not found";
    assert_refused(rig.shim.delete(rig.id(), "e1"), Code::NOT_FOUND, gone);
    assert_refused(rig.shim.kill(rig.id(), "e1", 9, false), Code::NOT_FOUND, gone);
    // The id is free again.
    rig.add("e1", ["true"])?;
    let never = rig.shim.delete(rig.id(), "e1")?;
    assert_eq!((never.status, never.at, never.pid), (0, Some((NEVER, 0)), 0));
    rig.end()
}

#[test]
fn an_exec_of_a_paused_container_is_paused() -> Result<()> {
    let rig = Rig::runc()?;
    rig.run()?;
    rig.exec("e1", ["sleep", "1000"])?;
    rig.shim.pause(rig.id())?;
    assert_eq!(seen(&rig.shim.state(rig.id(), "e1")?).0, Status::PAUSED);
    rig.shim.resume(rig.id())?;
    assert_eq!(seen(&rig.shim.state(rig.id(), "e1")?).0, Status::RUNNING);
    let story = rig.story_until("resumed")?;
    assert_eq!(story[4..], ["paused", "resumed"]);
    rig.end()
}

#[test]
fn state_tells_what_was_asked_for() -> Result<()> {
    let rig = Rig::fake()?;
    let (init, exec) = (rig.lab.fifos("init")?, rig.lab.terminal("exec")?);
    let pid = rig.shim.create(&rig.bundle, init.stdio())?;
    rig.shim.start(rig.id(), "")?;
    rig.shim.exec(rig.id(), "e1", &Process::new(["sleep", "1000"]), exec.stdio())?;
    for service in [TASK_V2, TASK_V3] {
        if rig.lab.shim().is_go() && service == TASK_V3 {
            continue;
        }
        let shim = rig.shim.reconnect()?.speaking(service);
        for (exec_id, id, pid, stdio) in
            [("", rig.id(), pid, init.stdio()), ("e1", "e1", 0, exec.stdio())]
        {
            let state = shim.state(rig.id(), exec_id)?;
            assert_eq!((state.id.as_str(), state.pid), (id, pid));
            assert_eq!(state.bundle, rig.bundle.dir().to_string_lossy());
            assert_eq!(state.exec_id, "", "never set, as in Go");
            let told = (state.stdin, state.stdout, state.stderr, state.terminal);
            let Stdio { stdin, stdout, stderr, terminal } = stdio.clone();
            assert_eq!(told, (stdin, stdout, stderr, terminal));
        }
    }
    rig.end()
}

/// containerd #7672, moby #44399. Go waits ten seconds for output first.
#[test]
fn a_created_container_is_deleted_at_once() -> Result<()> {
    if ShimUnderTest::skips_go("it takes ten seconds, tells no time, and Wait never returns")? {
        return Ok(());
    }
    let rig = Rig::runc()?;
    let io = rig.lab.fifos("init")?;
    let before = rig.footprint()?;
    let pid = rig.shim.create(&rig.bundle, io.stdio())?;
    let waited = thread::scope(|scope| {
        let wait = scope.spawn(|| rig.shim.wait(rig.id(), ""));
        wait::until("the shim is asked", || {
            ensure!(rig.shim.client().waiting() == 1);
            Ok(())
        })?;
        let deleting = std::time::Instant::now();
        let deleted = rig.shim.delete(rig.id(), "")?;
        let took = deleting.elapsed();
        ensure!(took < Duration::from_secs(10), "{took:?}: it waited for the output to end");
        let waited = wait.join().unwrap()?;
        assert_eq!((deleted.status, deleted.pid, deleted.at), (137, pid, waited.at));
        Ok(waited)
    })?;
    assert_eq!(rig.story_until("delete")?, ["create", "exit 137", "delete 137"]);
    let exit = rig.lab.events().log().wait(rig.id(), "exit")?;
    assert_eq!((exit.exited_at, exit.pid), (waited.at, pid));
    assert!(waited.status == 137 && waited.at > Some((NEVER, 0)));
    assert_eq!((io.stdout.finish()?, io.stderr.finish()?), (Vec::new(), Vec::new()));
    wait::until("nothing but the connection of the events is new", || {
        let mut change = rig.footprint()?.since(&before, false);
        // The daemon removes the bundle.
        change.retain(|line| !line.starts_with("file init.pid"));
        ensure!(change.iter().all(|line| line.starts_with("descriptor socket")), "{change:?}");
        Ok(())
    })?;
    rig.end()
}

/// Children that hold the output are killed with init; those of an exec are not.
#[test]
fn delete_does_not_wait_for_ever_for_output_that_somebody_holds() -> Result<()> {
    let rig = Rig::runc()?;
    rig.run()?;
    let io = rig.lab.fifos("exec")?;
    let daemon = Process::new(["sh", "-c", "echo out; sleep 1000 & exit 3"]);
    rig.shim.exec(rig.id(), "e1", &daemon, io.stdio())?;
    rig.shim.start(rig.id(), "e1")?;
    assert_eq!(rig.shim.wait(rig.id(), "e1")?.status, 3);
    assert_eq!(rig.shim.delete(rig.id(), "e1")?.status, 3);
    assert_eq!(io.stdout.finish()?, b"out\n");
    rig.end()
}

#[test]
fn execs_go_with_their_container() -> Result<()> {
    let rig = Rig::runc()?;
    rig.run()?;
    rig.story_until("start")?;
    let idle = rig.shim.proc().fds()?;
    let all: Vec<Fifos> = (0..3).map(|n| rig.lab.fifos(&format!("e{n}"))).collect::<Result<_>>()?;
    for (number, io) in all.iter().enumerate() {
        let id = format!("e{number}");
        rig.shim.exec(rig.id(), &id, &Process::new(["sleep", "1000"]), io.stdio())?;
        rig.shim.start(rig.id(), &id)?;
    }
    rig.shim.kill(rig.id(), "", 9, false)?;
    rig.shim.wait(rig.id(), "")?;
    rig.shim.delete(rig.id(), "")?;
    for io in &all {
        io.stdout.finish()?;
    }
    if !rig.lab.shim().is_go() {
        wait::until("their descriptors are closed", || {
            let now = rig.shim.proc().fds()?;
            ensure!(now.len() <= idle.len(), "{idle}now\n{now}");
            Ok(())
        })?;
    }
    rig.close()
}

/// containerd #3244.
#[test]
fn of_two_deletes_the_second_finds_nothing() -> Result<()> {
    let rig = Rig::fake()?;
    rig.run()?;
    rig.shim.kill(rig.id(), "", 9, false)?;
    rig.shim.wait(rig.id(), "")?;
    let (gate, other) = (rig.script().hold_before("delete")?, rig.shim.reconnect()?);
    thread::scope(|scope| {
        let first = scope.spawn(|| rig.shim.delete(rig.id(), ""));
        rig.script().wait_call("delete")?;
        let second = scope.spawn(|| other.delete(rig.id(), ""));
        wait::until("the second is asked for", || {
            ensure!(other.client().waiting() == 1);
            Ok(())
        })?;
        // Requests of a connection are taken in their order: by this answer the second has arrived.
        // In Go of 1.6 State waits for the lock that the first holds.
        if !rig.lab.shim().is_go() {
            other.state(rig.id(), "")?;
            ensure!(!second.is_finished(), "it did not wait for the first");
        }
        gate.open()?;
        assert_eq!(first.join().unwrap()?.status, 137);
        let error = second.join().unwrap().unwrap_err();
        assert_eq!(error.code(), Some(Code::NOT_FOUND), "{error}");
        anyhow::Ok(())
    })?;
    assert_eq!(rig.story_until("delete")?, ["create", "start", "exit 137", "delete 137"]);
    rig.close()
}
