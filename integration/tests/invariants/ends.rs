// SPDX-License-Identifier: Apache-2.0
//! I4, I5: init's exit is the last of its container, and no exec starts after it.

use std::time::Duration;
use std::{fs, thread};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use wedge_integration::proc::Proc;
use wedge_integration::protos::api::Status;
use wedge_integration::rpc::{Code, assert_refused};
use wedge_integration::{Rig, ShimUnderTest, wait};

use crate::{NO_ORDER, kill_and_reap};

#[test]
fn i4_the_exits_of_three_execs_come_before_the_one_of_init() -> Result<()> {
    let rig = Rig::runc()?;
    let init = rig.run()?;
    for id in ["e1", "e2", "e3"] {
        rig.exec(id, ["sleep", "1000"])?;
    }
    Proc(init).signal(Signal::SIGKILL)?;
    let story = rig.story_until("exit 137")?;
    let mut execs = story[8..11].to_vec();
    execs.sort();
    assert_eq!(execs, ["exit e1 137", "exit e2 137", "exit e3 137"]);
    assert_eq!(story[11..], ["exit 137"]);
    rig.end()
}

/// On the host nothing kills the execs with init: the shim has to wait for them.
#[test]
fn i4_the_exit_of_init_waits_for_running_execs() -> Result<()> {
    if ShimUnderTest::skips_go(NO_ORDER)? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    let init = rig.run()?;
    for id in ["e1", "e2", "e3"] {
        rig.exec(id, ["sleep", "1000"])?;
    }
    kill_and_reap(init)?;
    for id in ["e2", "e3", "e1"] {
        assert_eq!(rig.shim.state(rig.id(), "")?.status.enum_value(), Ok(Status::RUNNING));
        assert_eq!(rig.shim.state(rig.id(), "")?.exited_at.seconds, -62_135_596_800);
        rig.shim.kill(rig.id(), id, 9, false)?;
        assert_eq!(rig.shim.wait(rig.id(), id)?.status, 137);
    }
    assert_eq!(rig.shim.wait(rig.id(), "")?.status, 137);
    let story = rig.story_until("exit 137")?;
    assert_eq!(story[8..], ["exit e2 137", "exit e3 137", "exit e1 137", "exit 137"]);
    rig.end()
}

#[test]
fn i4_an_exec_that_does_not_end_cannot_hold_init_for_ever() -> Result<()> {
    if ShimUnderTest::skips_go("it waits for ever")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    let init = rig.run()?;
    rig.exec("stuck", ["sleep", "1000"])?;
    kill_and_reap(init)?;
    let log = rig.lab.events().log();
    wait::until_for(Duration::from_secs(50), "init's exit is published", || {
        log.story(rig.id()).into_iter().find(|event| event == "exit 137").context("not yet")
    })?;
    assert_eq!(rig.shim.wait(rig.id(), "")?.status, 137);
    rig.shim.kill(rig.id(), "stuck", 9, false)?;
    let story = rig.story_until("exit stuck 137")?;
    assert_eq!(story[4..], ["exit 137", "exit stuck 137"]);
    rig.shim.delete(rig.id(), "stuck")?;
    rig.retire()
}

#[test]
fn i5_no_exec_starts_after_init_was_reaped() -> Result<()> {
    if ShimUnderTest::skips_go(NO_ORDER)? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    let init = rig.run()?;
    rig.exec("holds", ["sleep", "1000"])?;
    rig.add("late", ["true"])?;
    kill_and_reap(init)?;
    // Not published yet: an exec still runs.
    assert_eq!(rig.shim.state(rig.id(), "")?.status.enum_value(), Ok(Status::RUNNING));
    let text = format!("container {} init process is not running: failed precondition", rig.id());
    rig.refuses(Code::FAILED_PRECONDITION, &text, |shim| shim.start(rig.id(), "late"))?;
    assert_eq!(rig.script().commands()?, ["create", "start", "exec"]);
    rig.shim.kill(rig.id(), "holds", 9, false)?;
    assert_eq!(rig.shim.wait(rig.id(), "")?.status, 137);
    rig.refuses(Code::FAILED_PRECONDITION, &text, |shim| shim.start(rig.id(), "late"))?;
    let story = rig.story_until("exit 137")?;
    assert_eq!(story[5..], ["exit holds 137", "exit 137"]);
    rig.end()
}

/// containerd #10589: the exit of an init that dies while an exec starts was swallowed.
#[test]
fn i5_init_may_die_before_a_hanging_exec_has_begun() -> Result<()> {
    let rig = Rig::fake()?;
    let init = rig.run()?;
    rig.add("e1", ["sleep", "1000"])?;
    let gate = rig.script().hold_before("exec")?;
    thread::scope(|scope| {
        let start = scope.spawn(|| rig.shim.start(rig.id(), "e1"));
        rig.script().wait_call("exec")?;
        kill_and_reap(init)?;
        gate.open()?;
        let text = "OCI runtime exec failed: cannot exec in a stopped container";
        assert_refused(start.join().unwrap(), Code::UNKNOWN, text);
        anyhow::Ok(())
    })?;
    assert_eq!(rig.story_until("exit 137")?, ["create", "start", "exec-added e1", "exit 137"]);
    rig.end()
}

#[test]
fn i5_init_may_die_while_an_exec_has_begun() -> Result<()> {
    if ShimUnderTest::skips_go(NO_ORDER)? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    let init = rig.run()?;
    rig.add("e1", ["sleep", "1000"])?;
    let gate = rig.script().hold_after("exec")?;
    thread::scope(|scope| {
        let start = scope.spawn(|| rig.shim.start(rig.id(), "e1"));
        let pid_file = rig.bundle.dir().join("e1.pid");
        wait::until("the exec runs", || Ok(fs::metadata(&pid_file)?))?;
        kill_and_reap(init)?;
        assert_eq!(rig.story_until("exec-added")?, ["create", "start", "exec-added e1"]);
        gate.open()?;
        start.join().unwrap().map_err(anyhow::Error::from)
    })?;
    rig.shim.kill(rig.id(), "e1", 9, false)?;
    let story = rig.story_until("exit 137")?;
    assert_eq!(story[2..], ["exec-added e1", "exec-started e1", "exit e1 137", "exit 137"]);
    rig.end()
}

#[test]
fn i5_a_start_that_races_with_the_end_of_init_is_all_or_nothing() -> Result<()> {
    for round in 0..8 {
        let rig = Rig::runc()?;
        let init = rig.run()?;
        rig.add("e1", ["sleep", "1000"])?;
        let started = thread::scope(|scope| {
            let start = scope.spawn(|| rig.shim.start(rig.id(), "e1"));
            for _ in 0..10 * round {
                rig.shim.state(rig.id(), "")?;
            }
            Proc(init).signal(Signal::SIGKILL)?;
            anyhow::Ok(start.join().unwrap())
        })?;
        let story = rig.story_until("exit 137")?;
        match started {
            Ok(_) => assert_eq!(story[3..], ["exec-started e1", "exit e1 137", "exit 137"]),
            Err(_) => assert_eq!(story[3..], ["exit 137"]),
        }
        rig.end()?;
    }
    Ok(())
}
