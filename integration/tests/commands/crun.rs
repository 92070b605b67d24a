// SPDX-License-Identifier: Apache-2.0
//! crun's refusals. What crun would refuse is left to it: it is started then, and says so in its own
//! words.

use anyhow::{Result, ensure};
use serde_json::json;
use wedge_integration::{Process, Rig, Spec};

use crate::counter::Counter;
use crate::subject::{BY_THE_RUNTIME, Refusals, Subject};
use crate::{skipped, sleeping};

fn counted(spec: &Spec) -> Result<(Rig, Counter)> {
    Subject::Crun.counted("crun", spec, "")
}

/// What clients are told when something is done behind the shim's back, and of execs that cannot be.
fn refusals(config: &str) -> Result<Refusals> {
    let rig = Subject::Crun.counted("crun", &sleeping(), config)?.0;
    let crun = |command: &[&str]| Subject::Crun.does(&rig, command);
    let mut refusals = Refusals::default();
    rig.create()?;
    crun(&["start"])?;
    refusals.note(&rig, rig.shim.start(rig.id(), "").map(drop))?;
    rig.shim.kill(rig.id(), "", 9, false)?;
    rig.shim.wait(rig.id(), "")?;
    refusals.note(&rig, rig.shim.kill(rig.id(), "", 15, false))?;
    rig.shim.delete(rig.id(), "")?;
    rig.run()?;
    let nowhere = ["nofoo", "/bin/nofoo", "/etc", "/etc/x/y", ""].map(|name| Process::new([name]));
    let lost = Process::new(["true"]).set("cwd", "/nonexistent");
    for (number, process) in nowhere.iter().chain([&lost]).enumerate() {
        refusals.note(&rig, rig.run_exec(&format!("e{number}"), process)?.map(drop))?;
    }
    crun(&["pause"])?;
    refusals.note(&rig, rig.run_exec("paused", &Process::new(["true"]))?.map(drop))?;
    crun(&["resume"])?;
    Subject::Crun.deletes(rig, refusals)
}

#[test]
fn refusals_are_cruns_to_the_letter() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let by_crun = refusals(BY_THE_RUNTIME)?;
    let (_, nowhere) = &by_crun.0[2];
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
    let (rig, counter) = counted(&sleeping())?;
    rig.run()?;
    ensure!(rig.run_exec("a", &Process::new(["nofoo"]))?.is_err());
    assert_eq!(counter.take()?, ["create"]);
    ensure!(rig.run_exec("b", &Process::new(["/bin/nofoo"]))?.is_err());
    assert_eq!(counter.take()?, ["exec"]);
    assert_eq!(rig.run_exec("c", &Process::new(["true"]))??.status, 0);
    assert_eq!(counter.take()?, [""; 0]);
    rig.end()
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
    let (rig, counter) = counted(&sleeping().set("/linux/seccomp", profile))?;
    rig.run()?;
    for (name, bound) in [("a", true), ("b", false)] {
        let process = Process::new(["mkdir", "/tmp/x"]).set("noNewPrivileges", bound);
        let ran = rig.run_exec(name, &process)??;
        ensure!(ran.status != 0 && ran.stderr.contains("not implemented"), "{ran:?}");
    }
    assert_eq!(counter.take()?, ["create"]);
    rig.end()
}
