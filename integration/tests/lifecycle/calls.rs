// SPDX-License-Identifier: Apache-2.0
//! Wait, Kill, Pids, Connect and Shutdown.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use protobuf::Message;
use wedge_integration::proc::{Proc, wait_gone};
use wedge_integration::protos::api::{Status, WaitRequest};
use wedge_integration::protos::shim::oci::ProcessDetails;
use wedge_integration::rpc::{Code, RpcError, assert_refused};
use wedge_integration::{Lab, Process, Rig, ShimUnderTest, Spec, TASK_V2, in_parallel, wait};

use crate::{NEVER, seen};

#[test]
fn wait_waits_for_what_is_not_started_yet() -> Result<()> {
    let rig = Rig::runc()?;
    rig.create()?;
    rig.add("e1", ["sh", "-c", "exit 5"])?;
    thread::scope(|scope| {
        let init = scope.spawn(|| rig.shim.wait(rig.id(), ""));
        let exec = scope.spawn(|| rig.shim.wait(rig.id(), "e1"));
        rig.shim.start(rig.id(), "")?;
        rig.shim.start(rig.id(), "e1")?;
        assert_eq!(exec.join().unwrap()?.status, 5);
        rig.shim.kill(rig.id(), "", 9, false)?;
        assert_eq!(init.join().unwrap()?.status, 137);
        // And again, until Delete.
        assert_eq!(rig.shim.wait(rig.id(), "e1")?.status, 5);
        anyhow::Ok(())
    })?;
    rig.end()
}

#[test]
fn wait_ends_when_an_exec_is_deleted_unstarted() -> Result<()> {
    // Go leaves the waiter waiting.
    if ShimUnderTest::skips_go("its Wait does not return")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    rig.run()?;
    rig.add("e1", ["true"])?;
    thread::scope(|scope| {
        let wait = scope.spawn(|| rig.shim.wait(rig.id(), "e1"));
        rig.shim.state(rig.id(), "e1")?;
        rig.shim.delete(rig.id(), "e1")?;
        match wait.join().unwrap() {
            Ok(exited) => assert_eq!((exited.status, exited.at), (0, Some((NEVER, 0)))),
            // It came after the Delete.
            Err(error) => assert_eq!(error.code(), Some(Code::NOT_FOUND), "{error}"),
        }
        anyhow::Ok(())
    })?;
    rig.end()
}

/// containerd #10983, #11483: each reconnect of a client left a waiter behind.
#[test]
fn two_thousand_cancelled_waits_leave_nothing() -> Result<()> {
    let rig = Rig::fake()?;
    rig.run()?;
    let (begun, memory) = (rig.footprint()?, rig.shim.proc().memory()?);
    let wait = WaitRequest { id: rig.id().to_owned(), ..WaitRequest::default() };
    let cancel = |number: usize| {
        if number.is_multiple_of(100) {
            // Those of a connection that is closed.
            let shim = rig.shim.reconnect()?;
            return (0..100).try_for_each(|_| Ok(shim.client().send(TASK_V2, "Wait", &wait)?));
        }
        let limit = Duration::from_millis(5);
        let result = rig.shim.raw_within(limit, TASK_V2, "Wait", &wait.write_to_bytes()?);
        let timeout = matches!(result, Err(RpcError::Timeout));
        let told = result.as_ref().is_err_and(|e| e.code() == Some(Code::DEADLINE_EXCEEDED));
        ensure!(timeout || told, "{result:?}");
        Ok(())
    };
    in_parallel(8, 1000, cancel)?;
    // The last of them may be known to the client only.
    rig.unchanged_since(&begun)?;
    in_parallel(8, 1000, cancel)?;
    rig.unchanged_since(&begun)?;
    if !rig.lab.shim().is_go() {
        // A change without an effect: a rest follows it, with which memory is given back.
        rig.shim.close_io(rig.id(), "")?;
        wait::until("memory is as before", || {
            let now = rig.shim.proc().memory()?;
            ensure!(now.private_dirty <= memory.private_dirty + 200, "{memory:?}, then {now:?}");
            Ok(())
        })?;
    }
    // Nobody was woken by mistake, and nobody is missing.
    assert_eq!(seen(&rig.shim.state(rig.id(), "")?).0, Status::RUNNING);
    rig.end()
}

#[test]
fn a_created_container_can_be_killed() -> Result<()> {
    let rig = Rig::runc()?;
    rig.create()?;
    rig.shim.kill(rig.id(), "", 9, false)?;
    assert_eq!(rig.shim.wait(rig.id(), "")?.status, 137);
    assert_eq!(rig.story_until("exit")?, ["create", "exit 137"]);
    rig.end()
}

#[test]
fn a_paused_container_can_be_killed() -> Result<()> {
    let rig = Rig::runc()?;
    rig.run()?;
    rig.shim.pause(rig.id())?;
    rig.shim.kill(rig.id(), "", 9, false)?;
    assert_eq!(rig.shim.wait(rig.id(), "")?.status, 137);
    assert_eq!(rig.story_until("exit")?, ["create", "start", "paused", "exit 137"]);
    rig.end()
}

#[test]
fn kill_all_reaches_the_children_of_init() -> Result<()> {
    let rig = Rig::runc()?;
    rig.run()?;
    let io = rig.lab.fifos("exec")?;
    let trap =
        Process::new(["sh", "-c", "trap 'echo got; exit 4' TERM; echo up; sleep 1000 & wait"]);
    rig.shim.exec(rig.id(), "e1", &trap, io.stdio())?;
    rig.shim.start(rig.id(), "e1")?;
    io.stdout.wait_text("up")?;
    rig.shim.kill(rig.id(), "", 15, true)?;
    assert_eq!(rig.shim.wait(rig.id(), "e1")?.status, 4);
    io.stdout.wait_text("got")?;
    rig.end()
}

/// containerd #4214: runc's container is gone, whoever deleted it.
#[test]
fn a_container_deleted_behind_our_back_is_not_found() -> Result<()> {
    let rig = Rig::runc()?;
    rig.run()?;
    let root = format!("/run/containerd/runc/{}", rig.lab.namespace());
    let runc = wedge_integration::Cmd::new("runc").args(["--root", &root, "delete", "-f"]);
    runc.arg(rig.id()).output()?.assert_ok();
    assert_eq!(rig.shim.wait(rig.id(), "")?.status, 137);
    let gone = "no such container: not found";
    assert_refused(rig.shim.kill(rig.id(), "", 9, false), Code::NOT_FOUND, gone);
    rig.retire()
}

/// containerd #4063, #3149: with the host's pid namespace the kernel does not end the others.
#[test]
fn what_init_leaves_in_a_shared_pid_namespace_dies_with_it() -> Result<()> {
    let init = ["sh", "-c", "sleep 1000 & echo $!; wait"];
    let rig = Rig::on(Lab::new()?, &Spec::new(init).host_pid())?;
    let io = rig.lab.fifos("init")?;
    let pid = rig.shim.create(&rig.bundle, io.stdio())?;
    rig.shim.start(rig.id(), "")?;
    rig.exec("e1", ["sleep", "1000"])?;
    io.stdout.wait_text("\n")?;
    let child = Proc(io.stdout.text().trim().parse()?);
    assert!(child.is_alive());
    rig.shim.kill(rig.id(), "", 9, false)?;
    assert_eq!(rig.shim.wait(rig.id(), "")?.status, 137);
    wait_gone(Proc(pid))?;
    wait_gone(child)?;
    if !rig.lab.shim().is_go() {
        // The version of Debian 12 does not order exits yet (containerd #9828).
        assert_eq!(rig.story_until("exit 137")?[4..], ["exit e1 137", "exit 137"]);
    }
    rig.end()
}

#[test]
fn pids_name_the_execs() -> Result<()> {
    let rig = Rig::runc()?;
    let init = rig.run()?;
    let mut expected = vec![(init, None)];
    for id in ["e1", "e2"] {
        expected.push((rig.exec(id, ["sleep", "1000"])?, Some(id.to_owned())));
    }
    let mut pids = Vec::new();
    for process in rig.shim.pids(rig.id())?.processes {
        let info = process.info.into_option();
        let exec_id = info.map(|info| {
            assert_eq!(info.type_url, "containerd.runc.v1.ProcessDetails");
            ProcessDetails::parse_from_bytes(&info.value).map(|details| details.exec_id)
        });
        pids.push((process.pid, exec_id.transpose()?));
    }
    pids.sort();
    expected.sort();
    assert_eq!(pids, expected);
    rig.shim.kill(rig.id(), "", 9, false)?;
    rig.shim.wait(rig.id(), "")?;
    assert_eq!(rig.shim.pids(rig.id())?.processes, []);
    rig.end()
}

#[test]
fn connect_knows_the_shim_and_its_tasks() -> Result<()> {
    let rig = Rig::fake()?;
    assert_eq!(rig.shim.connect_task("nobody")?.task_pid, 0);
    assert_eq!(rig.shim.connect_task(rig.id())?.task_pid, 0);
    let pid = rig.run()?;
    let answer = rig.shim.connect_task(rig.id())?;
    assert_eq!((answer.shim_pid, answer.task_pid), (rig.shim.proc().0, pid));
    assert_eq!(answer.version, "");
    rig.shim.kill(rig.id(), "", 9, false)?;
    rig.shim.wait(rig.id(), "")?;
    assert_eq!(rig.shim.connect_task(rig.id())?.task_pid, pid);
    rig.end()
}

#[test]
fn shutdown_with_a_container_left_does_nothing() -> Result<()> {
    let rig = Rig::fake()?;
    rig.run()?;
    rig.shim.shutdown()?;
    assert_eq!(seen(&rig.shim.state(rig.id(), "")?).0, Status::RUNNING);
    rig.exec("e1", ["true"])?;
    rig.end()
}
