// SPDX-License-Identifier: Apache-2.0
//! What changes one container takes turns, and an exit in between is dealt with.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use wedge_integration::fake_runtime::{Gate, Pause, Step};
use wedge_integration::protos::api::Status;
use wedge_integration::protos::shim::oci::CheckpointOptions;
use wedge_integration::rpc::{Code, RpcError, assert_refused};
use wedge_integration::{Rig, ShimProcess, ShimUnderTest, rounds};

use crate::kill_and_reap;

type Answer = Result<(), RpcError>;

/// Makes two calls, the second when `hung` has returned. The first hangs at the gate until then,
/// and the second has to wait for it, before it calls the runtime for `command`, if it does: that
/// is held until there is an answer, so that the order of the answers is that of the calls, and not
/// of the threads of this test. Returns the answers as they come.
fn while_it_hangs(
    rig: &Rig,
    gate: &Gate,
    first: impl FnOnce(&ShimProcess) -> Answer + Send,
    hung: impl FnOnce() -> Result<()>,
    (command, second): (&str, impl FnOnce(&ShimProcess) -> Answer + Send),
) -> Result<[(&'static str, Answer); 2]> {
    let (done, answers) = mpsc::channel();
    thread::scope(|scope| {
        let (shim, first_done) = (&rig.shim, done.clone());
        scope.spawn(move || first_done.send(("first", first(shim))));
        let called = hung().and_then(|()| rig.script().commands());
        scope.spawn(move || done.send(("second", second(shim))));
        // Far more than it takes when nothing holds it up.
        let early = answers.recv_timeout(Duration::from_millis(500));
        let (called, still) = (called?, rig.script().commands()?);
        // A call reads the script when it begins, so this is not for the first.
        let next = rig.script().gate(command, "next");
        let before = Pause { wait_for: Some(next.path()), ..Pause::default() };
        rig.script().script(command, Step { before, ..Step::default() })?;
        gate.open()?;
        ensure!(early.is_err(), "answered at the gate: {early:?}");
        ensure!(called == still, "called at the gate: {still:?}");
        let answer = answers.recv()?;
        next.open()?;
        Ok([answer, answers.recv()?])
    })
}

/// As [`while_it_hangs`]; both succeed, in order.
fn in_turn(
    rig: &Rig,
    gate: &Gate,
    first: impl FnOnce(&ShimProcess) -> Answer + Send,
    hung: impl FnOnce() -> Result<()>,
    second: (&str, impl FnOnce(&ShimProcess) -> Answer + Send),
) -> Result<()> {
    let answers = while_it_hangs(rig, gate, first, hung, second)?;
    ensure!(matches!(&answers, [("first", Ok(())), ("second", Ok(()))]), "{answers:?}");
    Ok(())
}

fn checkpoint(rig: &Rig, shim: &ShimProcess, exit: bool) -> Answer {
    let options = CheckpointOptions { exit, ..CheckpointOptions::default() };
    shim.checkpoint(rig.id(), &rig.lab.dir().join("images"), &options)
}

/// containerd deletes what has ended and closes its connection: who called Checkpoint would be told
/// that it failed, and CRIU would be killed.
#[test]
fn a_checkpoint_is_answered_before_the_delete_that_it_leads_to() -> Result<()> {
    if ShimUnderTest::skips_go("its exits wait for the checkpoint")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    rig.run()?;
    let gate = rig.script().hold_after("checkpoint")?;
    in_turn(
        &rig,
        &gate,
        |shim| checkpoint(&rig, shim, true),
        || rig.story_until("exit 137").map(drop),
        ("delete", |shim| shim.delete(rig.id(), "").map(drop)),
    )?;
    assert_eq!(rig.story_until("delete")?, ["create", "start", "exit 137", "delete 137"]);
    rig.close()
}

/// They share CRIU's directory.
#[test]
fn a_checkpoint_waits_for_another() -> Result<()> {
    let rig = Rig::fake()?;
    rig.run()?;
    let gate = rig.script().hold_before("checkpoint")?;
    in_turn(
        &rig,
        &gate,
        |shim| checkpoint(&rig, shim, false),
        || gate.wait_reached(),
        ("checkpoint", |shim| checkpoint(&rig, shim, true)),
    )?;
    rig.end()
}

/// It would freeze what CRIU has stopped.
#[test]
fn a_pause_waits_for_a_checkpoint() -> Result<()> {
    let rig = Rig::fake()?;
    rig.run()?;
    let gate = rig.script().hold_after("checkpoint")?;
    in_turn(
        &rig,
        &gate,
        |shim| checkpoint(&rig, shim, false),
        || gate.wait_reached(),
        ("pause", |shim| shim.pause(rig.id())),
    )?;
    rig.shim.resume(rig.id())?;
    rig.end()
}

/// A signal for all freezes and thaws: a pause in between would be refused, or undone.
#[test]
fn a_pause_waits_for_a_kill() -> Result<()> {
    let rig = Rig::fake()?;
    rig.run()?;
    let gate = rig.script().hold_after("kill")?;
    in_turn(
        &rig,
        &gate,
        |shim| shim.kill(rig.id(), "", 18, true),
        || gate.wait_reached(),
        ("pause", |shim| shim.pause(rig.id())),
    )?;
    rig.shim.resume(rig.id())?;
    rig.end()
}

/// Nobody could delete what is left frozen: "cannot delete container … that is not stopped: paused".
#[test]
fn a_container_that_ends_while_it_is_paused_is_not_left_frozen() -> Result<()> {
    if ShimUnderTest::skips_go("its exits wait for a Pause")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    let init = rig.run()?;
    let gate = rig.script().hold_after("pause")?;
    in_turn(
        &rig,
        &gate,
        |shim| shim.pause(rig.id()),
        || {
            gate.wait_reached()?;
            kill_and_reap(init)?;
            rig.story_until("exit 137").map(drop)
        },
        ("delete", |shim| shim.delete(rig.id(), "").map(drop)),
    )?;
    assert_eq!(rig.script().commands()?, ["create", "start", "pause", "resume", "delete"]);
    // No pause after the exit.
    assert_eq!(rig.story_until("delete")?, ["create", "start", "exit 137", "delete 137"]);
    rig.close()
}

/// The same with a freezer, without control of who wins.
#[test]
fn a_pause_that_races_with_the_end_of_init_leaves_nothing_frozen() -> Result<()> {
    for round in 0..rounds(12) {
        let rig = Rig::runc()?;
        rig.run()?;
        thread::scope(|scope| {
            let pause = scope.spawn(|| rig.shim.pause(rig.id()));
            for _ in 0..round {
                rig.shim.state(rig.id(), "")?;
            }
            rig.shim.kill(rig.id(), "", 9, false)?;
            // It may have lost.
            drop(pause.join().unwrap());
            anyhow::Ok(())
        })?;
        // The freezer of v1 keeps what it has caught on its way to the end; this thaws it.
        drop(rig.shim.kill(rig.id(), "", 9, true));
        rig.shim.wait(rig.id(), "")?;
        rig.shim.delete(rig.id(), "")?;
        let story = rig.story_until("delete")?;
        assert_eq!(story[story.len() - 2..], ["exit 137", "delete 137"], "{story:?}");
        rig.close()?;
    }
    Ok(())
}

/// Nobody knows how far it got.
#[test]
fn a_pause_whose_runtime_was_killed_is_undone() -> Result<()> {
    if ShimUnderTest::skips_go("it leaves the container frozen")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    rig.run()?;
    rig.script().script("pause", Step { killed: true, ..Step::default() })?;
    let error = rig.shim.pause(rig.id()).unwrap_err().to_string();
    assert!(error.contains("OCI runtime pause failed: "), "{error}");
    assert_eq!(rig.script().commands()?, ["create", "start", "pause", "resume"]);
    assert_eq!(rig.shim.state(rig.id(), "")?.status.enum_value(), Ok(Status::RUNNING));
    rig.shim.kill(rig.id(), "", 9, false)?;
    assert_eq!(rig.story_until("exit")?, ["create", "start", "exit 137"]);
    rig.retire()
}

/// Who gives a slow Create up deletes what it may have made.
#[test]
fn a_delete_waits_for_the_create_of_its_container() -> Result<()> {
    if ShimUnderTest::skips_go("Delete of a created container takes ten seconds")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    let gate = rig.script().hold_before("create")?;
    in_turn(
        &rig,
        &gate,
        |_| rig.create().map(drop),
        || gate.wait_reached(),
        ("delete", |shim| shim.delete(rig.id(), "").map(drop)),
    )?;
    assert_eq!(rig.story_until("delete")?, ["create", "exit 137", "delete 137"]);
    rig.close()
}

#[test]
fn a_delete_during_a_create_that_fails_finds_nothing() -> Result<()> {
    let rig = Rig::fake()?;
    let gate = rig.script().gate("create", "before");
    let before = Pause { wait_for: Some(gate.path()), ..Pause::default() };
    rig.script().script("create", Step { before, ..Step::failing("no luck") })?;
    let mut answers = while_it_hangs(
        &rig,
        &gate,
        |_| rig.create().map(drop),
        || gate.wait_reached(),
        ("delete", |shim| shim.delete(rig.id(), "").map(drop)),
    )?;
    answers.sort_by_key(|(call, _)| *call);
    let [(_, created), (_, deleted)] = answers;
    assert_refused(created, Code::UNKNOWN, "OCI runtime create failed: no luck");
    assert_refused(deleted, Code::NOT_FOUND, "container not created: not found");
    rig.close()
}
