// SPDX-License-Identifier: Apache-2.0
//! I8: State, Kill, Wait, Pids and Connect never wait behind a command of the runtime.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use wedge_integration::proc::{Proc, wait_gone};
use wedge_integration::protos::api::Status;
use wedge_integration::rpc::{Code, assert_refused};
use wedge_integration::{
    Bundle, Process, Rig, ShimProcess, ShimUnderTest, Spec, Stdio, payload, wait,
};

/// A second container of the same shim, and an exec in the first that can be killed.
struct Bystanders {
    other: Bundle,
}

/// Holds `command` of the container, calls `hang` from a thread, and `meanwhile` while it hangs.
fn while_hanging<T: Send>(
    rig: &Rig,
    command: &str,
    hang: impl FnOnce(&ShimProcess) -> T + Send,
    meanwhile: impl FnOnce() -> Result<()>,
) -> Result<T> {
    let (gate, before) = (rig.script().hold_before(command)?, rig.script().calls()?.len());
    let (done, result) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || done.send(hang(&rig.shim)));
        let outcome = wait::until("the runtime is called", || {
            ensure!(rig.script().calls()?.len() > before, "{command} is not called");
            Ok(())
        });
        let outcome = outcome.and_then(|()| meanwhile());
        let hung = result.try_recv().is_err();
        gate.open()?;
        outcome?;
        ensure!(hung, "{command} did not hang");
        Ok(result.recv()?)
    })
}

impl Bystanders {
    fn of(rig: &Rig) -> Result<Bystanders> {
        Ok(Bystanders { other: rig.lab.bundle("other", &Spec::new([payload::PATH, "pause"]))? })
    }

    /// Everything that must not wait, about the container.
    fn ask(&self, rig: &Rig) -> Result<()> {
        rig.shim.state(rig.id(), "")?;
        ensure!(rig.shim.connect_task(rig.id())?.task_pid > 0);
        rig.shim.pids(rig.id())?;
        self.live(rig)
    }

    /// Kill and Wait of an exec in the container.
    fn kill(&self, rig: &Rig, exec_id: &str) -> Result<()> {
        rig.shim.kill(rig.id(), "", 0, false)?;
        rig.shim.kill(rig.id(), exec_id, 9, false)?;
        ensure!(rig.shim.wait(rig.id(), exec_id)?.status == 137);
        rig.story_until(&format!("exit {exec_id} 137")).map(drop)
    }

    /// The whole life of the other container.
    fn live(&self, rig: &Rig) -> Result<()> {
        let (shim, id) = (&rig.shim, self.other.id());
        shim.create(&self.other, &Stdio::null())?;
        shim.start(id, "")?;
        shim.exec(id, "e1", &Process::new(["true"]), &Stdio::null())?;
        shim.start(id, "e1")?;
        shim.wait(id, "e1")?;
        shim.delete(id, "e1")?;
        shim.kill(id, "", 9, false)?;
        shim.wait(id, "")?;
        shim.delete(id, "")?;
        Ok(())
    }
}

/// containerd #13483.
#[test]
fn i8_calls_are_answered_while_create_hangs() -> Result<()> {
    if ShimUnderTest::skips_go("one lock is held during the whole of Create")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    let others = Bystanders::of(&rig)?;
    let created = while_hanging(
        &rig,
        "create",
        |_| rig.create(),
        || {
            let gone = "container not created: not found";
            assert_refused(rig.shim.state(rig.id(), ""), Code::NOT_FOUND, gone);
            assert_refused(rig.shim.kill(rig.id(), "", 9, true), Code::NOT_FOUND, gone);
            others.live(&rig)
        },
    )?;
    created?;
    rig.end()
}

#[test]
fn i8_calls_are_answered_while_start_hangs() -> Result<()> {
    if ShimUnderTest::skips_go("Kill waits for Start")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    let others = Bystanders::of(&rig)?;
    rig.create()?;
    rig.exec("e1", ["sleep", "1000"])?;
    let started = while_hanging(
        &rig,
        "start",
        |shim| shim.start(rig.id(), ""),
        || {
            others.ask(&rig)?;
            others.kill(&rig, "e1")
        },
    )?;
    started?;
    rig.end()
}

/// containerd #8557, #8617.
#[test]
fn i8_calls_are_answered_while_an_exec_hangs() -> Result<()> {
    if ShimUnderTest::skips_go("Pids waits for the exec")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    let others = Bystanders::of(&rig)?;
    rig.run()?;
    rig.exec("e1", ["sleep", "1000"])?;
    rig.add("e2", ["true"])?;
    let started = while_hanging(
        &rig,
        "exec",
        |shim| shim.start(rig.id(), "e2"),
        || {
            others.ask(&rig)?;
            let created = rig.shim.state(rig.id(), "e2")?;
            ensure!(created.status.enum_value() == Ok(Status::CREATED) && created.pid == 0);
            let text = "process not created: failed precondition";
            let kill = rig.shim.kill(rig.id(), "e2", 9, false);
            assert_refused(kill, Code::FAILED_PRECONDITION, text);
            others.kill(&rig, "e1")
        },
    )?;
    started?;
    rig.end()
}

#[test]
fn i8_calls_are_answered_while_delete_hangs() -> Result<()> {
    if ShimUnderTest::skips_go("State waits for Delete")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    let others = Bystanders::of(&rig)?;
    rig.run()?;
    rig.shim.kill(rig.id(), "", 9, false)?;
    rig.shim.wait(rig.id(), "")?;
    let deleted = while_hanging(
        &rig,
        "delete",
        |shim| shim.delete(rig.id(), ""),
        || {
            others.ask(&rig)?;
            ensure!(rig.shim.wait(rig.id(), "")?.status == 137);
            let text = "process already finished: not found";
            assert_refused(rig.shim.kill(rig.id(), "", 9, false), Code::NOT_FOUND, text);
            Ok(())
        },
    )?;
    assert_eq!(deleted?.status, 137);
    rig.close()
}

#[test]
fn i8_calls_are_answered_while_pause_hangs() -> Result<()> {
    if ShimUnderTest::skips_go("Kill waits for Pause")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    let others = Bystanders::of(&rig)?;
    rig.run()?;
    rig.exec("e1", ["sleep", "1000"])?;
    let paused = while_hanging(
        &rig,
        "pause",
        |shim| shim.pause(rig.id()),
        || {
            let state = rig.shim.state(rig.id(), "")?;
            ensure!(state.status.enum_value() == Ok(Status::PAUSING), "{state:?}");
            others.ask(&rig)?;
            others.kill(&rig, "e1")
        },
    )?;
    paused?;
    rig.shim.resume(rig.id())?;
    rig.end()
}

#[test]
fn i8_calls_are_answered_while_a_checkpoint_hangs() -> Result<()> {
    if ShimUnderTest::skips_go("State waits for Checkpoint")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    let others = Bystanders::of(&rig)?;
    rig.run()?;
    rig.exec("e1", ["sleep", "1000"])?;
    let saved = while_hanging(
        &rig,
        "checkpoint",
        |shim| shim.checkpoint(rig.id(), &rig.lab.dir().join("images"), &Default::default()),
        || {
            others.ask(&rig)?;
            others.kill(&rig, "e1")
        },
    )?;
    saved?;
    rig.end()
}

/// moby #40817: a runtime that never returns. Somebody has to kill it, here the test.
#[test]
fn i8_a_runtime_that_hangs_for_ever_in_exec_hurts_only_its_exec() -> Result<()> {
    if ShimUnderTest::skips_go("Pids waits for the exec")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    let others = Bystanders::of(&rig)?;
    let init = rig.run()?;
    rig.add("e1", ["true"])?;
    let _never_opened = rig.script().hold_before("exec")?;
    thread::scope(|scope| {
        let start = scope.spawn(|| rig.shim.start(rig.id(), "e1"));
        let call = rig.script().wait_call("exec")?;
        others.ask(&rig)?;
        rig.shim.kill(rig.id(), "", 9, true)?;
        wait_gone(Proc(init))?;
        Proc(call.pid).signal(Signal::SIGKILL)?;
        let error = start.join().unwrap().unwrap_err().to_string();
        assert!(error.contains("OCI runtime exec failed: "), "{error}");
        anyhow::Ok(())
    })?;
    assert_eq!(rig.story_until("exit 137")?[2..], ["exec-added e1", "exit 137"]);
    rig.end()
}

/// containerd closes its connection when Delete is answered: a Kill that is not answered by then has
/// failed for its caller, as for a kubelet that stops a pod.
#[test]
fn a_kill_is_answered_before_the_delete_that_it_leads_to() -> Result<()> {
    if ShimUnderTest::skips_go("its exits wait for the answer of a kill")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    rig.run()?;
    let gate = rig.script().hold_after("kill")?;
    let (done, answered) = mpsc::channel();
    thread::scope(|scope| {
        let (shim, id, killed) = (&rig.shim, rig.id(), done.clone());
        scope.spawn(move || killed.send(("kill", shim.kill(id, "", 9, false))));
        let ended = rig.story_until("exit 137");
        scope.spawn(move || done.send(("delete", shim.delete(id, "").map(drop))));
        // Far more than it takes when nothing holds it up.
        let early = answered.recv_timeout(Duration::from_millis(500));
        // Not even one more is held up.
        let more = shim.kill(id, "", 0, false);
        // Which of the threads is the first to tell must not depend on them.
        let deletes = rig.script().hold_before("delete")?;
        gate.open()?;
        ended?;
        ensure!(early.is_err(), "answered while the runtime hangs: {early:?}");
        assert_refused(more, Code::NOT_FOUND, "process already finished: not found");
        for expected in ["kill", "delete"] {
            let (call, answer) = answered.recv()?;
            ensure!(call == expected && answer.is_ok(), "{expected}: {call} {answer:?}");
            deletes.open()?;
        }
        anyhow::Ok(())
    })?;
    rig.close()
}
