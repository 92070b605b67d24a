// SPDX-License-Identifier: Apache-2.0
//! The same for containers of crun, execs included. What crun would refuse is left to it: it is
//! started then, and says so in its own words.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use wedge_integration::proc::{Proc, wait_gone};
use wedge_integration::rpc::{Code, RpcError};
use wedge_integration::{Cmd, Lab, Process, Rig, Spec};

use crate::counter::Counter;
use crate::{skipped, sleeping};

#[path = "../../../crates/runc/tests/ground/mod.rs"]
mod ground;

/// A container that sleeps, with a counter for crun.
fn counted(name: &str, spec: &Spec, config: &str) -> Result<(Rig, Counter)> {
    ground::enter();
    let mut lab = Lab::new()?;
    let counter = Counter::of(lab.dir(), name, &command(lab.dir()))?;
    lab.options_mut().binary_name = counter.path();
    lab.configure(config)?;
    Ok((Rig::telling(lab, spec)?, counter))
}

/// How a shell calls crun.
fn command(dir: &Path) -> String {
    let library = ground::preload(dir);
    let variable = library.map(|path| format!("env LD_PRELOAD={} ", path.display()));
    format!("{}/usr/bin/crun", variable.unwrap_or_default())
}

/// crun itself, with the containers of a rig.
fn crun(rig: &Rig, args: &[&str]) -> Result<String> {
    let root = format!("/run/containerd/runc/{}", rig.lab.namespace());
    let mut crun = Cmd::new("crun");
    if let Some(library) = ground::preload(rig.lab.dir()) {
        crun = crun.env("LD_PRELOAD", library);
    }
    let out = crun.args(["--root", &root]).args(args).arg(rig.id()).output()?;
    ensure!(out.code == 0, "{out}");
    Ok(out.text())
}

fn status(rig: &Rig) -> Result<String> {
    let state: Value = serde_json::from_str(&crun(rig, &["state"])?)?;
    Ok(state.get("status").and_then(Value::as_str).unwrap_or_default().to_owned())
}

/// All of a container's life but its deletion.
fn life(rig: &Rig) -> Result<()> {
    let pid = rig.run()?;
    let pids: Vec<u32> = rig.shim.pids(rig.id())?.processes.iter().map(|one| one.pid).collect();
    assert_eq!(pids, [pid]);
    rig.shim.pause(rig.id())?;
    rig.shim.resume(rig.id())?;
    let ran = rig.run_exec("e", &Process::new(["echo", "a"]))??;
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "a\n"));
    rig.shim.kill(rig.id(), "", 0, false)?;
    rig.shim.kill(rig.id(), "", 9, false)?;
    assert_eq!(rig.shim.wait(rig.id(), "")?.status, 137);
    rig.shim.kill(rig.id(), "", 9, true)?;
    Ok(())
}

#[test]
fn of_crun_only_create_is_started() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let (rig, counter) = counted("crun", &sleeping(), "")?;
    life(&rig)?;
    let state = rig.lab.state(&rig.bundle)?;
    ensure!(state.contains("1 native, 0 by the OCI runtime"), "{state}");
    ensure!(!state.contains("by the OCI runtime: "), "{state}");
    rig.shim.delete(rig.id(), "")?;
    assert_eq!(counter.take()?, ["create"]);
    rig.close()
}

#[test]
fn what_was_never_started_needs_only_crun_create() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let (rig, counter) = counted("crun", &sleeping(), "")?;
    rig.create()?;
    rig.shim.delete(rig.id(), "")?;
    assert_eq!(counter.take()?, ["create"]);
    rig.close()
}

#[test]
fn the_operator_can_have_all_by_crun() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let config = "commands = \"runtime\"\nexec = \"runtime\"";
    let (rig, counter) = counted("crun", &sleeping(), config)?;
    life(&rig)?;
    rig.shim.delete(rig.id(), "")?;
    let calls = counter.take()?;
    for command in ["create", "start", "ps", "pause", "resume", "exec", "kill", "delete"] {
        ensure!(calls.iter().any(|call| call == command), "{command}: {calls:?}");
    }
    rig.close()
}

/// Another name, and nobody knows what it does.
#[test]
fn a_wrapper_of_crun_does_all_by_itself() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let (rig, counter) = counted("crun-wrapper", &sleeping(), "")?;
    life(&rig)?;
    let state = rig.lab.state(&rig.bundle)?;
    let reason = format!("by the OCI runtime: the OCI runtime is {}, not runc", counter.path());
    assert_eq!(state.matches(&reason).count(), 2, "{state}");
    rig.shim.delete(rig.id(), "")?;
    ensure!(counter.take()?.contains(&"delete".to_owned()));
    rig.close()
}

/// crun's own commands between the shim's.
#[test]
fn crun_works_on_what_the_shim_has_started() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let (rig, counter) = counted("crun", &sleeping(), "")?;
    rig.create()?;
    assert_eq!(status(&rig)?, "created");
    rig.shim.start(rig.id(), "")?;
    assert_eq!(status(&rig)?, "running");
    rig.shim.pause(rig.id())?;
    assert_eq!(status(&rig)?, "paused");
    crun(&rig, &["resume"])?;
    crun(&rig, &["pause"])?;
    rig.shim.resume(rig.id())?;
    assert_eq!(status(&rig)?, "running");
    rig.shim.kill(rig.id(), "", 9, false)?;
    rig.shim.wait(rig.id(), "")?;
    assert_eq!(status(&rig)?, "stopped");
    rig.shim.delete(rig.id(), "")?;
    assert_eq!(counter.take()?, ["create"]);
    rig.close()
}

/// What clients are told when something is done behind the shim's back, and of execs that cannot be.
fn refusals(config: &str) -> Result<Vec<(Option<Code>, String)>> {
    let rig = counted("crun", &sleeping(), config)?.0;
    let mut said = Vec::new();
    let mut refused = |answer: Result<(), RpcError>| {
        let err = answer.err().with_context(|| format!("not refused, after {said:?}"))?;
        let text = err.to_string().replace(rig.id(), "ID").replace(rig.lab.namespace(), "NS");
        // The name of the runtime is a path in a directory of the test's own.
        let text = text.split_once(" did not terminate").map_or(&*text, |(_, rest)| rest);
        said.push((err.code(), text.to_owned()));
        anyhow::Ok(())
    };
    rig.create()?;
    crun(&rig, &["start"])?;
    refused(rig.shim.start(rig.id(), "").map(drop))?;
    rig.shim.kill(rig.id(), "", 9, false)?;
    rig.shim.wait(rig.id(), "")?;
    refused(rig.shim.kill(rig.id(), "", 15, false))?;
    rig.shim.delete(rig.id(), "")?;
    rig.run()?;
    let nowhere = ["nofoo", "/bin/nofoo", "/etc", "/etc/x/y", ""].map(|name| Process::new([name]));
    let lost = Process::new(["true"]).set("cwd", "/nonexistent");
    for (number, process) in nowhere.iter().chain([&lost]).enumerate() {
        refused(rig.run_exec(&format!("e{number}"), process)?.map(drop))?;
    }
    crun(&rig, &["pause"])?;
    refused(rig.run_exec("paused", &Process::new(["true"]))?.map(drop))?;
    crun(&rig, &["resume"])?;
    crun(&rig, &["delete", "--force"])?;
    rig.shim.wait(rig.id(), "")?;
    refused(rig.shim.kill(rig.id(), "", 9, false))?;
    refused(rig.shim.kill(rig.id(), "", 9, true))?;
    refused(rig.shim.pids(rig.id()).map(drop))?;
    rig.retire()?;
    Ok(said)
}

#[test]
fn refusals_are_cruns_to_the_letter() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let by_crun = refusals("commands = \"runtime\"\nexec = \"runtime\"")?;
    let (_, nowhere) = &by_crun[2];
    let text = "executable file `nofoo` not found in $PATH: No such file or directory";
    assert_eq!(nowhere, &format!("UNKNOWN: OCI runtime exec failed: {text}"));
    assert_eq!(refusals("")?, by_crun);
    Ok(())
}

/// Only what crun has to say starts it.
#[test]
fn a_program_that_is_nowhere_starts_no_crun() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let (rig, counter) = counted("crun", &sleeping(), "")?;
    rig.run()?;
    ensure!(rig.run_exec("a", &Process::new(["nofoo"]))?.is_err());
    assert_eq!(counter.take()?, ["create"]);
    ensure!(rig.run_exec("b", &Process::new(["/bin/nofoo"]))?.is_err());
    assert_eq!(counter.take()?, ["exec"]);
    assert_eq!(rig.run_exec("c", &Process::new(["true"]))??.status, 0);
    assert_eq!(counter.take()?, [""; 0]);
    rig.end()
}

/// containerd calls the action `delete` for a shim that was killed, and for each that has ended.
#[test]
fn the_action_delete_removes_a_container_of_crun() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let (rig, counter) = counted("crun", &sleeping(), "")?;
    let init = Proc(rig.run()?);
    rig.shim.proc().signal(Signal::SIGKILL)?;
    rig.lab.delete(&rig.bundle)?;
    wait_gone(init)?;
    assert_eq!(counter.take()?, ["create", "delete"]);
    rig.lab.delete(&rig.bundle)?;
    assert_eq!(counter.take()?, [""; 0]);
    rig.lab.finish()
}

/// containerd's default profile, by crun's own program.
#[test]
fn execs_have_the_containers_filter() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}],
    });
    let (rig, counter) = counted("crun", &sleeping().set("/linux/seccomp", profile), "")?;
    rig.run()?;
    for (name, bound) in [("a", true), ("b", false)] {
        let process = Process::new(["mkdir", "/tmp/x"]).set("noNewPrivileges", bound);
        let ran = rig.run_exec(name, &process)??;
        ensure!(ran.status != 0 && ran.stderr.contains("not implemented"), "{ran:?}");
    }
    assert_eq!(counter.take()?, ["create"]);
    rig.end()
}
