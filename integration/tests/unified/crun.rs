// SPDX-License-Identifier: Apache-2.0
//! Containers of crun as containerd makes them, with every controller, and in scopes of systemd.

use anyhow::{Result, ensure};
use serde_json::json;
use wedge_integration::{Env, Process, Rig, Spec, payload};

use crate::counter::Counter;
use crate::{LIMIT, assert_vm, lab_of_scopes, no_oom_kill_is_hidden};

const CRUN: &str = "/usr/bin/crun";

/// A container's whole life under containerd, with what it asks for by default.
#[test]
fn of_crun_only_create_is_started_for_ctr() -> Result<()> {
    assert_vm();
    let env = Env::new()?;
    let counter = Counter::of(env.dir(), "crun", CRUN)?;
    let flag = format!("--runc-binary={}", counter.path());
    let flags = [flag.as_str(), "--seccomp"];
    let container = env.container("c")?.flags(flags).start(["sleep", "1000"])?;
    let status = container.exec(["grep", "Seccomp:", "/proc/self/status"])?;
    status.assert_ok().assert_stdout("Seccomp:\t2\n");
    assert_eq!(container.pids()?.len(), 1);
    container.pause()?.assert_ok();
    container.resume()?.assert_ok();
    container.kill_all("KILL")?.assert_ok();
    assert_eq!(container.delete()?, 137);
    assert_eq!(counter.take()?, ["create"]);
    env.finish()
}

/// crun's init is in a cgroup below the scope.
#[test]
fn systemd_does_not_hide_an_oom_kill() -> Result<()> {
    assert_vm();
    let mut lab = lab_of_scopes()?;
    lab.options_mut().binary_name = CRUN.to_owned();
    no_oom_kill_is_hidden(lab)
}

/// An exec is in the scope, too; the unit is crun's to stop.
#[test]
fn systemd_scopes_of_crun_are_deleted_by_it() -> Result<()> {
    assert_vm();
    let mut lab = lab_of_scopes()?;
    let counter = Counter::of(lab.dir(), "crun", CRUN)?;
    lab.options_mut().binary_name = counter.path();
    let spec = Spec::new([payload::PATH, "pause"]).memory_limit(LIMIT);
    let spec = spec.set("/linux/resources/pids", json!({"limit": 20}));
    let rig = Rig::telling(lab, &spec)?;
    rig.run()?;
    let ran = rig.run_exec("e", &Process::new(["cat", "/proc/self/cgroup"]))??;
    ensure!(ran.stdout.contains(".scope"), "{ran:?}");
    rig.shim.pause(rig.id())?;
    rig.shim.resume(rig.id())?;
    rig.shim.kill(rig.id(), "", 9, false)?;
    rig.shim.wait(rig.id(), "")?;
    assert_eq!(counter.take()?, ["create"], "{}", rig.lab.state(&rig.bundle)?);
    rig.shim.delete(rig.id(), "")?;
    assert_eq!(counter.take()?, ["delete"]);
    rig.close()
}
