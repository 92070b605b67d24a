// SPDX-License-Identifier: Apache-2.0
//! What only runc does, and its refusals.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use wedge_integration::proc::{Proc, wait_gone};
use wedge_integration::rpc::{Code, assert_refused};
use wedge_integration::{Env, Fifos, Rig, Spec, wait};

use crate::counter::Counter;
use crate::subject::{BY_THE_RUNTIME, NOT_FROZEN, Refusals, Subject, pause};
use crate::{skipped, sleeping};

const RUNC: &str = "/usr/sbin/runc";

fn counted(spec: &Spec) -> Result<(Rig, Counter)> {
    Subject::Runc.counted("runc", spec, "")
}

/// Deletes it, and ends the test: of runc only create was started.
fn deleted(rig: Rig, counter: &Counter) -> Result<()> {
    rig.shim.delete(rig.id(), "")?;
    assert_eq!(counter.take()?, ["create"]);
    rig.close()
}

/// A container's whole life under containerd.
#[test]
fn of_runc_only_create_is_started_for_ctr() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let env = Env::new()?;
    let counter = Counter::of(env.dir(), "runc", RUNC)?;
    let flag = format!("--runc-binary={}", counter.path());
    env.container("c")?.flags([&flag]).run(["echo", "a"])?.assert_ok().assert_stdout("a\n");
    assert_eq!(counter.take()?, ["create"]);
    let container = env.container("c")?.flags([&flag]).start(["sleep", "1000"])?;
    assert_eq!(container.pids()?.len(), 1);
    container.pause()?.assert_ok();
    container.wait_status("PAUSED")?;
    container.resume()?.assert_ok();
    container.wait_status("RUNNING")?;
    container.kill_all("KILL")?.assert_ok();
    assert_eq!(container.delete()?, 137);
    assert_eq!(counter.take()?, ["create"]);
    env.finish()
}

/// With the host's pid namespace the others are killed when the init has ended.
#[test]
fn what_shares_a_pid_namespace_needs_only_create_too() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let spec = Spec::new(["sh", "-c", "sleep 1000 & echo $!; wait"]).host_pid();
    let (rig, counter) = counted(&spec)?;
    let io = rig.lab.fifos("init")?;
    rig.shim.create(&rig.bundle, io.stdio())?;
    rig.shim.start(rig.id(), "")?;
    let child = child(&io)?;
    rig.shim.kill(rig.id(), "", 15, false)?;
    assert_eq!(rig.shim.wait(rig.id(), "")?.status, 143);
    wait_gone(child)?;
    deleted(rig, &counter)
}

fn child(io: &Fifos) -> Result<Proc> {
    io.stdout.wait_text("\n")?;
    Ok(Proc(io.stdout.text().trim().parse()?))
}

#[test]
fn a_paused_container_whose_init_is_killed_is_thawed() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let (rig, counter) = counted(&sleeping())?;
    rig.run()?;
    rig.shim.pause(rig.id())?;
    rig.shim.kill(rig.id(), "", 9, false)?;
    assert_eq!(rig.shim.wait(rig.id(), "")?.status, 137);
    deleted(rig, &counter)
}

/// Runs a container with a hook, and says which commands were runc's.
fn with_hook(kind: &str) -> Result<()> {
    let (lab, counter) = Subject::Runc.bench("runc")?;
    let ran = lab.dir().join("ran");
    let hook = json!([{ "path": "/bin/touch", "args": ["touch", ran] }]);
    let spec = sleeping().set("/hooks", json!({ kind: hook }));
    let rig = Rig::telling(lab, &spec)?;
    rig.run()?;
    rig.shim.kill(rig.id(), "", 9, false)?;
    rig.shim.wait(rig.id(), "")?;
    rig.shim.delete(rig.id(), "")?;
    let calls = counter.take()?;
    let expected: &[&str] = match kind {
        "poststart" => &["create", "start"],
        "poststop" => &["create", "delete"],
        _ => &["create"],
    };
    assert_eq!(calls, expected, "{kind}");
    ensure!(ran.exists(), "{kind} has not run");
    rig.close()
}

#[test]
fn hooks_that_runc_runs_later_are_runcs() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    ["prestart", "createRuntime", "poststart", "poststop"].into_iter().try_for_each(with_hook)
}

/// The reason is in the log, once, and in the state.
#[test]
fn the_reason_is_told_once() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let env = Env::new()?;
    let counter = Counter::of(env.dir(), "other", RUNC)?;
    let flag = format!("--runc-binary={}", counter.path());
    let container = env.container("c")?.flags([&flag]).start(["sleep", "1000"])?;
    let paused = wait::until("it is paused", || {
        let out = container.pause()?;
        ensure!(!out.error_text().contains(NOT_FROZEN), "{out}");
        Ok(out)
    })?;
    paused.assert_ok();
    container.resume()?.assert_ok();
    let text = "commands on this container are the OCI runtime's: the OCI runtime is ";
    env.daemon().wait_log(text)?;
    container.shim()?.signal(Signal::SIGUSR1)?;
    env.daemon().wait_log(", commands by the OCI runtime: the OCI runtime is ")?;
    assert_eq!(env.daemon().log().matches(text).count(), 1);
    container.remove()?;
    env.finish()
}

/// A container with which something was done behind the shim's back, and what the shim says then.
fn behind_our_back(config: &str) -> Result<Refusals> {
    let runc = Subject::Runc;
    let rig = runc.counted("runc", &sleeping(), config)?.0;
    let runs = |command: &[&str]| runc.does(&rig, command);
    let mut refusals = Refusals::default();
    rig.create()?;
    runc.pause(&rig)?;
    refusals.note(&rig, rig.shim.start(rig.id(), "").map(drop))?;
    runs(&["resume"])?;
    runs(&["start"])?;
    refusals.note(&rig, rig.shim.start(rig.id(), "").map(drop))?;
    rig.shim.kill(rig.id(), "", 9, false)?;
    rig.shim.wait(rig.id(), "")?;
    refusals.note(&rig, rig.shim.kill(rig.id(), "", 15, false))?;
    rig.shim.delete(rig.id(), "")?;
    rig.run()?;
    runc.pause(&rig)?;
    refusals.note(&rig, rig.shim.pause(rig.id()))?;
    runs(&["resume"])?;
    pause(&rig)?;
    runs(&["resume"])?;
    refusals.note(&rig, rig.shim.resume(rig.id()))?;
    runc.deletes(rig, refusals)
}

#[test]
fn refusals_are_runcs_to_the_letter() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    assert_eq!(behind_our_back("")?, behind_our_back(BY_THE_RUNTIME)?);
    Ok(())
}

/// What has ended cannot be signalled, unless all of it is meant, and has no processes.
#[test]
fn an_ended_container_refuses_signals() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let (rig, counter) = counted(&sleeping())?;
    rig.run()?;
    rig.shim.kill(rig.id(), "", 9, false)?;
    rig.shim.wait(rig.id(), "")?;
    let finished = "process already finished: not found";
    assert_refused(rig.shim.kill(rig.id(), "", 9, false), Code::NOT_FOUND, finished);
    rig.shim.kill(rig.id(), "", 9, true)?;
    assert!(rig.shim.pids(rig.id())?.processes.is_empty());
    deleted(rig, &counter)
}

/// runc finds in its state what it needs to change what the shim has started.
#[test]
fn runc_updates_what_the_shim_has_started() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let (rig, counter) = counted(&sleeping())?;
    rig.run()?;
    rig.shim.update(rig.id(), r#"{"pids":{"limit":100}}"#)?;
    rig.shim.kill(rig.id(), "", 9, false)?;
    rig.shim.wait(rig.id(), "")?;
    rig.shim.delete(rig.id(), "")?;
    assert_eq!(counter.take()?, ["create", "update"]);
    rig.close()
}

/// A container that makes cgroups of its own is removed with them.
#[test]
fn cgroups_below_the_containers_go_with_it() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let (rig, counter) = counted(&sleeping())?;
    rig.run()?;
    let root = Path::new("/run/containerd/runc").join(rig.lab.namespace());
    let state = fs::read(root.join(rig.id()).join("state.json"))?;
    let state: Value = serde_json::from_slice(&state)?;
    let paths = state["cgroup_paths"].as_object().context("no cgroups")?;
    let paths = paths.values().filter_map(Value::as_str);
    let made: Vec<PathBuf> = paths.map(|path| Path::new(path).join("sub/deeper")).collect();
    ensure!(!made.is_empty());
    made.iter().try_for_each(fs::create_dir_all)?;
    rig.shim.kill(rig.id(), "", 9, false)?;
    rig.shim.wait(rig.id(), "")?;
    deleted(rig, &counter)?;
    ensure!(!made.iter().any(|dir| dir.exists()), "{made:?}");
    Ok(())
}

/// A process of the exec is an exec's, whoever lists it.
#[test]
fn a_hundred_processes_are_listed() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let script = "i=0; while [ $i -lt 99 ]; do sleep 1000 & i=$((i+1)); done; wait";
    let (rig, counter) = counted(&Spec::new(["sh", "-c", script]))?;
    rig.run()?;
    rig.add("e", ["sleep", "1000"])?;
    let exec = rig.shim.start(rig.id(), "e")?;
    wait::until("all are listed", || {
        let pids = rig.shim.pids(rig.id())?.processes;
        ensure!(pids.len() == 101, "{}", pids.len());
        ensure!(pids.iter().filter(|process| process.info.is_some()).count() == 1);
        ensure!(pids.iter().any(|process| process.pid == exec && process.info.is_some()));
        Ok(())
    })?;
    assert_eq!(counter.take()?, ["create"]);
    rig.end()
}
