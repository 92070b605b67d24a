// SPDX-License-Identifier: Apache-2.0
//! I1, I2, I3: every exit is reaped once, none is lost, and events come in order.

use std::thread;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use wedge_integration::fake_runtime::Step;
use wedge_integration::proc::{Proc, wait_gone};
use wedge_integration::protos::api::Status;
use wedge_integration::rpc::Code;
use wedge_integration::{Lab, Rig, ShimUnderTest, Spec, in_parallel, payload, wait};

use crate::{NEVER, exit, loses_the_race};

#[test]
fn i1_every_exit_reaches_the_one_who_waits_for_it() -> Result<()> {
    let rig = Rig::fake()?;
    rig.run()?;
    in_parallel(8, 160, |number| {
        let id = format!("e{number}");
        // Leaves an orphan behind, which becomes a child of the shim that nobody asks for.
        rig.exec(&id, ["sh", "-c", &format!("sleep 0.01 & exit {number}")])?;
        let exited = rig.shim.wait(rig.id(), &id)?;
        ensure!(usize::try_from(exited.status)? == number, "{id}: {exited:?}");
        Ok(rig.shim.delete(rig.id(), &id)?)
    })?;
    wait::until("all orphans are reaped", || {
        let children = rig.shim.proc().children();
        ensure!(children.len() == 1, "{children:?}");
        Ok(())
    })?;
    rig.end()
}

/// containerd #12678: signals coalesce, and many children end at once.
#[test]
fn i1_no_exit_is_lost_while_the_shim_stands_still() -> Result<()> {
    let rig = Rig::fake()?;
    rig.run()?;
    let id = |number| format!("e{number}");
    let pids = in_parallel(8, 100, |number| Ok(rig.exec(&id(number), ["sleep", "1000"])?))?;
    rig.shim.proc().signal(Signal::SIGSTOP)?;
    for pid in &pids {
        Proc(*pid).signal(Signal::SIGKILL)?;
    }
    rig.shim.proc().signal(Signal::SIGCONT)?;
    for number in 0..pids.len() {
        assert_eq!(rig.shim.wait(rig.id(), &id(number))?.status, 137);
        rig.shim.delete(rig.id(), &id(number))?;
    }
    assert_eq!(rig.shim.proc().zombies(), []);
    rig.end()
}

#[test]
fn i2_an_exec_may_exit_before_its_runtime_returns() -> Result<()> {
    let rig = Rig::fake()?;
    rig.run()?;
    for (number, orphan) in [(3, true), (4, false)] {
        rig.script().script("exec", Step { orphan, ..loses_the_race() })?;
        let id = format!("e{number}");
        let pid = rig.exec(&id, exit(number))?;
        assert_eq!(rig.shim.wait(rig.id(), &id)?.status, number);
        let last = rig.lab.events().log().wait(rig.id(), &format!("exit {id} {number}"))?;
        assert_eq!((last.pid, rig.shim.state(rig.id(), &id)?.pid), (pid, pid));
    }
    let exec =
        |id, code| ["exec-added ", "exec-started ", "exit "].map(|e| format!("{e}{id}{code}"));
    let story = rig.story_until("exit e4")?;
    let [added, started, _] = exec("e3", "");
    assert_eq!(story[2..5], [added, started, "exit e3 3".to_owned()]);
    let [added, started, _] = exec("e4", "");
    assert_eq!(story[5..], [added, started, "exit e4 4".to_owned()]);
    rig.end()
}

#[test]
fn i2_an_init_may_exit_before_create_returns() -> Result<()> {
    let rig = Rig::fake()?;
    rig.script().script("create", Step { init_exits: Some(4), ..loses_the_race() })?;
    let pid = rig.create()?;
    assert_eq!(rig.shim.wait(rig.id(), "")?.status, 4);
    assert_eq!(rig.story_until("exit")?, ["create", "exit 4"]);
    assert_eq!(rig.shim.state(rig.id(), "")?.status.enum_value(), Ok(Status::STOPPED));
    let text = "cannot start a stopped process";
    rig.refuses(Code::UNKNOWN, text, |shim| shim.start(rig.id(), ""))?;
    let deleted = rig.shim.delete(rig.id(), "")?;
    assert_eq!((deleted.status, deleted.pid), (4, pid));
    assert_eq!(rig.story_until("delete")?, ["create", "exit 4", "delete 4"]);
    rig.close()
}

#[test]
fn i2_an_init_may_exit_between_create_and_start() -> Result<()> {
    let rig = Rig::runc()?;
    let pid = rig.create()?;
    Proc(pid).signal(Signal::SIGKILL)?;
    assert_eq!(rig.story_until("exit")?, ["create", "exit 137"]);
    let text = "cannot start a stopped process";
    rig.refuses(Code::UNKNOWN, text, |shim| shim.start(rig.id(), ""))?;
    assert_eq!(rig.shim.wait(rig.id(), "")?.status, 137);
    assert_eq!(rig.shim.delete(rig.id(), "")?.status, 137);
    rig.close()
}

#[test]
fn i2_an_init_may_exit_before_start_returns() -> Result<()> {
    let rig = Rig::on(Lab::with_fake_runtime()?, &Spec::new(exit(5)))?;
    let init = Proc(rig.create()?);
    let gate = rig.script().hold_after("start")?;
    thread::scope(|scope| {
        let start = scope.spawn(|| rig.shim.start(rig.id(), ""));
        rig.script().wait_call("start")?;
        wait_gone(init)?;
        assert_eq!(rig.story_until("create")?, ["create"]);
        gate.open()?;
        assert_eq!(start.join().unwrap()?, init.0);
        anyhow::Ok(())
    })?;
    assert_eq!(rig.story_until("exit")?, ["create", "start", "exit 5"]);
    rig.end()
}

#[test]
fn i3_events_are_in_order_and_one_exit_comes_per_process() -> Result<()> {
    let rig = Rig::fake()?;
    rig.run()?;
    in_parallel(6, 60, |number| {
        let id = format!("e{number}");
        rig.exec(&id, exit(u32::try_from(number)?))?;
        rig.shim.wait(rig.id(), &id)?;
        Ok(rig.shim.delete(rig.id(), &id)?)
    })?;
    rig.shim.kill(rig.id(), "", 9, false)?;
    rig.shim.wait(rig.id(), "")?;
    rig.shim.delete(rig.id(), "")?;
    let story = rig.story_until("delete")?;
    for number in 0..60 {
        let own = [format!("e{number}"), format!("e{number} {number}")];
        let mine = story.iter().filter(|event| {
            event.split_once(' ').is_some_and(|(_, about)| own.contains(&about.to_owned()))
        });
        let expected = [
            format!("exec-added e{number}"),
            format!("exec-started e{number}"),
            format!("exit e{number} {number}"),
        ];
        assert_eq!(mine.cloned().collect::<Vec<_>>(), expected);
    }
    assert_eq!(story[..2], ["create", "start"]);
    assert_eq!(story[2 + 3 * 60..], ["exit 137", "delete 137"]);
    assert_eq!(rig.lab.events().connections(), 1);
    rig.close()
}

#[test]
fn i3_an_oom_kill_comes_before_the_exit_it_causes() -> Result<()> {
    if ShimUnderTest::skips_go("it loses the event of what dies at once")? {
        return Ok(());
    }
    let hog = Spec::new([payload::PATH, "alloc", "200"]).memory_limit(16 << 20);
    for _ in 0..5 {
        let rig = Rig::on(Lab::new()?, &hog)?;
        rig.run()?;
        assert_eq!(rig.shim.wait(rig.id(), "")?.status, 137);
        rig.shim.delete(rig.id(), "")?;
        let story = rig.story_until("delete")?;
        assert_eq!(story, ["create", "start", "oom", "exit 137", "delete 137"]);
        rig.close()?;
    }
    Ok(())
}

#[test]
fn i3_the_time_of_an_exit_is_the_same_everywhere() -> Result<()> {
    let rig = Rig::fake()?;
    rig.run()?;
    rig.exec("e1", exit(3))?;
    rig.shim.kill(rig.id(), "", 9, false)?;
    for (exec_id, brief) in [("e1", "exit e1"), ("", "exit 137")] {
        let at = rig.shim.wait(rig.id(), exec_id)?.at;
        assert_eq!(rig.lab.events().log().wait(rig.id(), brief)?.exited_at, at);
        let state = rig.shim.state(rig.id(), exec_id)?;
        assert_eq!(state.exited_at.as_ref().map(|time| (time.seconds, time.nanos)), at);
        assert!(at > NEVER);
        assert_eq!(rig.shim.delete(rig.id(), exec_id)?.at, at);
    }
    rig.close()
}
