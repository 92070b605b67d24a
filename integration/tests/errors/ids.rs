// SPDX-License-Identifier: Apache-2.0
//! Containers and execs: unknown, taken, or named impossibly.

use std::sync::Barrier;
use std::thread::{self, ScopedJoinHandle};

use anyhow::{Result, bail};
use wedge_integration::protos::api::CreateTaskRequest;
use wedge_integration::rpc::{Code, RpcError, assert_refused};
use wedge_integration::{Process, Rig, ShimProcess, ShimUnderTest, Stdio, TASK_V2, TASK_V3};

/// Every call that is about one process, as (name, result).
fn about(shim: &ShimProcess, id: &str, exec: &str) -> Vec<(&'static str, Result<(), RpcError>)> {
    vec![
        ("State", shim.state(id, exec).map(drop)),
        ("Start", shim.start(id, exec).map(drop)),
        ("Delete", shim.delete(id, exec).map(drop)),
        ("Kill", shim.kill(id, exec, 15, false)),
        ("ResizePty", shim.resize_pty(id, exec, 80, 24)),
        ("CloseIO", shim.close_io(id, exec)),
        ("Wait", shim.wait(id, exec).map(drop)),
    ]
}

#[test]
fn an_unknown_container_is_not_found_whatever_is_asked() -> Result<()> {
    let rig = Rig::fake()?;
    rig.run()?;
    let before = rig.footprint()?;
    // Go has one of the two, by its version.
    let services = if rig.lab.shim().is_go() { &[TASK_V2][..] } else { &[TASK_V2, TASK_V3] };
    for service in services {
        let shim = rig.shim.reconnect()?.speaking(service);
        let mut calls = about(&shim, "nobody", "");
        calls.push(("exec State", shim.state("nobody", "e1").map(drop)));
        calls.push(("Pids", shim.pids("nobody").map(drop)));
        calls.push(("Pause", shim.pause("nobody")));
        calls.push(("Resume", shim.resume("nobody")));
        calls.push(("Exec", shim.exec("nobody", "e1", &Process::new(["true"]), &Stdio::null())));
        for (name, result) in calls {
            println!("{service} {name}");
            assert_refused(result, Code::NOT_FOUND, "container not created: not found");
        }
        assert_eq!(shim.connect_task("nobody")?.task_pid, 0);
    }
    rig.unchanged_since(&before)?;
    rig.end()
}

#[test]
fn an_unknown_exec_is_not_found_whatever_is_asked() -> Result<()> {
    let rig = Rig::fake()?;
    rig.run()?;
    let before = rig.footprint()?;
    for (name, result) in about(&rig.shim, rig.id(), "nobody") {
        println!("{name}");
        if ["State", "CloseIO"].contains(&name) && rig.lab.shim().is_go() {
            // Loses the class of these errors.
            continue;
        }
        assert_refused(result, Code::NOT_FOUND, "process does not exist nobody: not found");
    }
    rig.unchanged_since(&before)?;
    rig.end()
}

#[test]
fn an_id_is_taken_once() -> Result<()> {
    // Go calls the runtime again, and unmounts the live container's root when that fails.
    let go = "a second Create of an id is not refused before it has effects";
    if ShimUnderTest::skips_go(go)? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    rig.run()?;
    let taken = format!("id {}: already exists", rig.id());
    rig.refuses(Code::ALREADY_EXISTS, &taken, |_| rig.create())?;
    rig.add("e1", ["true"])?;
    rig.refuses(Code::ALREADY_EXISTS, "id e1: already exists", |_| rig.add("e1", ["true"]))?;
    assert_eq!(rig.script().commands()?, ["create", "start"]);
    rig.end()
}

/// containerd #3365.
#[test]
fn of_two_execs_with_one_id_exactly_one_is_refused() -> Result<()> {
    let rig = Rig::fake()?;
    rig.run()?;
    let other = rig.shim.reconnect()?;
    for round in 0..100 {
        let exec_id = format!("e{round}");
        let add = |shim: &ShimProcess| {
            shim.exec(rig.id(), &exec_id, &Process::new(["true"]), &Stdio::null())
        };
        let [first, second] = at_once([&rig.shim, &other], add)?;
        let refused = if first.is_ok() { second } else { first.and(second) };
        let text = format!("id {exec_id}: already exists");
        assert_refused(refused, Code::ALREADY_EXISTS, &text);
    }
    rig.end()
}

#[test]
fn of_two_creates_with_one_id_exactly_one_is_refused() -> Result<()> {
    if ShimUnderTest::skips_go("both call the runtime")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    let other = rig.shim.reconnect()?;
    let create = |shim: &ShimProcess| shim.create(&rig.bundle, &Stdio::null()).map(drop);
    let [first, second] = at_once([&rig.shim, &other], create)?;
    let refused = if first.is_ok() { second } else { first.and(second) };
    assert_refused(refused, Code::ALREADY_EXISTS, &format!("id {}: already exists", rig.id()));
    assert_eq!(rig.script().commands()?, ["create"]);
    rig.end()
}

/// Makes a call over two connections at the same time.
fn at_once<T: Send>(
    shims: [&ShimProcess; 2],
    call: impl Fn(&ShimProcess) -> T + Sync,
) -> Result<[T; 2]> {
    let (barrier, call) = (Barrier::new(2), &call);
    thread::scope(|scope| {
        let threads = shims.map(|shim| {
            let barrier = &barrier;
            scope.spawn(move || {
                barrier.wait();
                call(shim)
            })
        });
        match threads.map(ScopedJoinHandle::join) {
            [Ok(first), Ok(second)] => Ok([first, second]),
            _ => bail!("a thread panicked"),
        }
    })
}

#[test]
fn an_id_that_is_no_identifier_is_refused() -> Result<()> {
    if ShimUnderTest::skips_go("it leaves the check to the daemon")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    rig.run()?;
    let long = "x".repeat(77);
    let rule = "^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$";
    for (id, problem) in [
        ("", "identifier must not be empty".to_owned()),
        ("a/b", format!("identifier \"a/b\" must match {rule}")),
        ("..", format!("identifier \"..\" must match {rule}")),
        ("../escape", format!("identifier \"../escape\" must match {rule}")),
        (&long, format!("identifier {long:?} greater than maximum length (76 characters)")),
    ] {
        let text = format!("{problem}: invalid argument");
        let create = CreateTaskRequest {
            id: id.to_owned(),
            ..rig.shim.create_request(&rig.bundle, &Stdio::null())
        };
        rig.refuses(Code::INVALID_ARGUMENT, &text, |shim| shim.create_with(&create))?;
        rig.refuses(Code::INVALID_ARGUMENT, &text, |_| rig.add(id, ["true"]))?;
    }
    assert_eq!(rig.script().commands()?, ["create", "start"]);
    rig.end()
}

#[test]
fn a_bundle_must_be_an_absolute_path() -> Result<()> {
    if ShimUnderTest::skips_go("it takes the path as relative to its own bundle")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    for bundle in ["", "relative/path"] {
        let create = CreateTaskRequest {
            bundle: bundle.to_owned(),
            ..rig.shim.create_request(&rig.bundle, &Stdio::null())
        };
        let text = format!("bundle path {bundle:?} is not absolute: invalid argument");
        rig.refuses(Code::INVALID_ARGUMENT, &text, |shim| shim.create_with(&create))?;
    }
    rig.end()
}
