// SPDX-License-Identifier: Apache-2.0
//! What the shim does by itself on a container that runc has made (docs/commands.md): which commands
//! of runc are started, and that nobody can tell the difference, but by the clock.
#![forbid(unsafe_code)]

mod counter;
mod crun;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use wedge_integration::proc::{Proc, wait_gone};
use wedge_integration::rpc::{Code, RpcError, assert_refused};
use wedge_integration::{Cmd, Env, Fifos, Lab, Rig, ShimUnderTest, Spec, payload, wait};

use crate::counter::Counter;

const RUNC: &str = "/usr/sbin/runc";

fn skipped() -> Result<bool> {
    ShimUnderTest::skips_go("it starts runc for everything")
}

/// A container that sleeps, with a counter for runc.
fn counted(name: &str, spec: &Spec, config: &str) -> Result<(Rig, Counter)> {
    let (lab, counter) = bench(name)?;
    lab.configure(config)?;
    Ok((Rig::telling(lab, spec)?, counter))
}

fn bench(name: &str) -> Result<(Lab, Counter)> {
    let mut lab = Lab::new()?;
    let counter = Counter::of(lab.dir(), name, RUNC)?;
    lab.options_mut().binary_name = counter.path();
    Ok((lab, counter))
}

fn sleeping() -> Spec {
    Spec::new([payload::PATH, "pause"])
}

/// All of a container's life, with every command there is.
fn whole_life(rig: &Rig) -> Result<()> {
    let pid = rig.run()?;
    let pids = || -> Result<Vec<u32>> {
        Ok(rig.shim.pids(rig.id())?.processes.iter().map(|process| process.pid).collect())
    };
    assert_eq!(pids()?, [pid]);
    rig.shim.pause(rig.id())?;
    rig.shim.resume(rig.id())?;
    rig.exec("e", ["true"])?;
    rig.shim.wait(rig.id(), "e")?;
    rig.shim.delete(rig.id(), "e")?;
    rig.shim.kill(rig.id(), "", 0, false)?;
    rig.shim.kill(rig.id(), "", 9, false)?;
    assert_eq!(rig.shim.wait(rig.id(), "")?.status, 137);
    let finished = "process already finished: not found";
    assert_refused(rig.shim.kill(rig.id(), "", 9, false), Code::NOT_FOUND, finished);
    rig.shim.kill(rig.id(), "", 9, true)?;
    assert_eq!(pids()?, [0; 0]);
    Ok(())
}

/// What `whole_life` makes of runc's commands when they are all runc's, and the deletion of it.
const BY_RUNC: [&str; 10] =
    ["create", "start", "ps", "pause", "resume", "kill", "kill", "kill", "kill", "ps"];

/// Deletes it, and ends the test.
fn deleted(rig: Rig, counter: &Counter, commands: &[&str]) -> Result<()> {
    rig.shim.delete(rig.id(), "")?;
    assert_eq!(counter.take()?, commands);
    rig.close()
}

fn state(rig: &Rig) -> Result<String> {
    rig.lab.state(&rig.bundle)
}

#[test]
fn of_runc_only_create_is_started() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let (rig, counter) = counted("runc", &sleeping(), "")?;
    whole_life(&rig)?;
    assert_eq!(counter.take()?, ["create"]);
    let state = state(&rig)?;
    ensure!(
        state.contains("; commands auto\n") && !state.contains("by the OCI runtime: "),
        "{state}"
    );
    deleted(rig, &counter, &[])
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

#[test]
fn what_was_never_started_needs_only_create_too() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let (rig, counter) = counted("runc", &sleeping(), "")?;
    rig.create()?;
    rig.shim.delete(rig.id(), "")?;
    assert_eq!(counter.take()?, ["create"]);
    rig.close()
}

/// With the host's pid namespace the others are killed when the init has ended.
#[test]
fn what_shares_a_pid_namespace_needs_only_create_too() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let spec = Spec::new(["sh", "-c", "sleep 1000 & echo $!; wait"]).host_pid();
    let (rig, counter) = counted("runc", &spec, "")?;
    let io = rig.lab.fifos("init")?;
    rig.shim.create(&rig.bundle, io.stdio())?;
    rig.shim.start(rig.id(), "")?;
    let child = child(&io)?;
    rig.shim.kill(rig.id(), "", 15, false)?;
    assert_eq!(rig.shim.wait(rig.id(), "")?.status, 143);
    wait_gone(child)?;
    assert_eq!(counter.take()?, ["create"]);
    deleted(rig, &counter, &[])
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
    let (rig, counter) = counted("runc", &sleeping(), "")?;
    rig.run()?;
    rig.shim.pause(rig.id())?;
    rig.shim.kill(rig.id(), "", 9, false)?;
    assert_eq!(rig.shim.wait(rig.id(), "")?.status, 137);
    assert_eq!(counter.take()?, ["create"]);
    deleted(rig, &counter, &[])
}

/// Every command is runc's, and the state says why, or nothing.
fn all_by_runc(rig: Rig, counter: &Counter, said: Option<&str>) -> Result<()> {
    whole_life(&rig)?;
    let calls = counter.take()?;
    let calls: Vec<&str> =
        calls.iter().map(String::as_str).filter(|call| *call != "exec").collect();
    assert_eq!(calls, BY_RUNC);
    let (state, reason) = (state(&rig)?, ", commands by the OCI runtime: ");
    match said {
        Some(said) => ensure!(state.contains(&format!("{reason}{said}")), "{said}: {state}"),
        None => ensure!(!state.contains(reason), "{state}"),
    }
    deleted(rig, counter, &["delete"])
}

#[test]
fn the_operator_can_have_them_by_runc() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let (rig, counter) = counted("runc", &sleeping(), "commands = \"runtime\"")?;
    all_by_runc(rig, &counter, None)
}

/// A wrapper may do more than runc.
#[test]
fn a_runtime_of_another_name_does_them_by_itself() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let (rig, counter) = counted("wrapper", &sleeping(), "")?;
    let reason = format!("the OCI runtime is {}, not runc", counter.path());
    all_by_runc(rig, &counter, Some(&reason))
}

/// Runs a container with a hook, and says which commands were runc's.
fn with_hook(kind: &str) -> Result<()> {
    let (lab, counter) = bench("runc")?;
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
    container.pause()?.assert_ok();
    container.resume()?.assert_ok();
    let text = "commands on this container are the OCI runtime's: the OCI runtime is ";
    env.daemon().wait_log(text)?;
    container.shim()?.signal(Signal::SIGUSR1)?;
    env.daemon().wait_log(", commands by the OCI runtime: the OCI runtime is ")?;
    assert_eq!(env.daemon().log().matches(text).count(), 1);
    container.remove()?;
    env.finish()
}

/// runc with the containers of a rig. On a busy machine it may not get to freeze one at once.
fn runc(rig: &Rig, args: &[&str]) -> Result<()> {
    let root = format!("/run/containerd/runc/{}", rig.lab.namespace());
    wait::until("runc does it", || {
        let runc = Cmd::new("runc").args(["--root", &root]).args(args).arg(rig.id());
        let out = runc.output()?;
        ensure!(!out.error_text().contains("unable to freeze"), "{out}");
        out.assert_ok();
        Ok(())
    })
}

/// A container with which something was done behind the shim's back, and what the shim says then.
fn behind_our_back(config: &str) -> Result<Vec<RpcError>> {
    let rig = counted("runc", &sleeping(), config)?.0;
    let mut said = Vec::new();
    let mut refused = |answer: Result<(), RpcError>| {
        let err = answer.err().with_context(|| format!("not refused, after {said:?}"))?;
        said.push(err);
        anyhow::Ok(())
    };
    rig.create()?;
    runc(&rig, &["pause"])?;
    refused(rig.shim.start(rig.id(), "").map(drop))?;
    runc(&rig, &["resume"])?;
    runc(&rig, &["start"])?;
    refused(rig.shim.start(rig.id(), "").map(drop))?;
    rig.shim.kill(rig.id(), "", 9, false)?;
    rig.shim.wait(rig.id(), "")?;
    refused(rig.shim.kill(rig.id(), "", 15, false))?;
    rig.shim.delete(rig.id(), "")?;
    rig.run()?;
    runc(&rig, &["pause"])?;
    refused(rig.shim.pause(rig.id()))?;
    runc(&rig, &["resume"])?;
    rig.shim.pause(rig.id())?;
    runc(&rig, &["resume"])?;
    refused(rig.shim.resume(rig.id()))?;
    runc(&rig, &["delete", "--force"])?;
    rig.shim.wait(rig.id(), "")?;
    refused(rig.shim.kill(rig.id(), "", 9, false))?;
    refused(rig.shim.kill(rig.id(), "", 9, true))?;
    refused(rig.shim.pids(rig.id()).map(drop))?;
    rig.retire()?;
    Ok(said)
}

#[test]
fn refusals_are_runcs_to_the_letter() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let (native, by_runc) = (behind_our_back("")?, behind_our_back("commands = \"runtime\"")?);
    assert_eq!(native.len(), by_runc.len());
    // The name of the runtime, a path in a directory of the test's own, is part of one text.
    let text = |err: &RpcError| match err.to_string().split_once(" did not terminate") {
        Some((_, rest)) => rest.to_owned(),
        None => err.to_string(),
    };
    for (ours, theirs) in native.iter().zip(&by_runc) {
        assert_eq!((ours.code(), text(ours)), (theirs.code(), text(theirs)));
    }
    Ok(())
}

/// runc's own commands work between those of the shim, and the shim's between those of runc.
#[test]
fn runc_works_on_what_the_shim_has_started() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let rig = Rig::runc()?;
    rig.run()?;
    let root = format!("/run/containerd/runc/{}", rig.lab.namespace());
    let status = || -> Result<String> {
        let out = Cmd::new("runc").args(["--root", &root, "state"]).arg(rig.id()).output()?;
        let state: Value = serde_json::from_str(&out.text())?;
        Ok(state["status"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(status()?, "running");
    rig.shim.pause(rig.id())?;
    assert_eq!(status()?, "paused");
    rig.shim.resume(rig.id())?;
    assert_eq!(status()?, "running");
    let exec = Cmd::new("runc").args(["--root", &root, "exec"]).arg(rig.id());
    exec.args(["echo", "a"]).output()?.assert_ok().assert_stdout("a\n");
    rig.shim.update(rig.id(), r#"{"pids":{"limit":100}}"#)?;
    rig.exec("e", ["true"])?;
    assert_eq!(rig.shim.wait(rig.id(), "e")?.status, 0);
    let kill = Cmd::new("runc").args(["--root", &root, "kill"]).arg(rig.id());
    kill.arg("KILL").output()?.assert_ok();
    assert_eq!(rig.shim.wait(rig.id(), "")?.status, 137);
    assert_eq!(status()?, "stopped");
    rig.shim.delete(rig.id(), "")?;
    let gone = Cmd::new("runc").args(["--root", &root, "state"]).arg(rig.id()).output()?;
    gone.assert_error("container does not exist");
    rig.close()
}

/// A container that makes cgroups of its own is removed with them.
#[test]
fn cgroups_below_the_containers_go_with_it() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let (rig, counter) = counted("runc", &sleeping(), "")?;
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
    deleted(rig, &counter, &["create"])?;
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
    let (rig, counter) = counted("runc", &Spec::new(["sh", "-c", script]), "")?;
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
