// SPDX-License-Identifier: Apache-2.0
//! What is so for both.

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use wedge_integration::proc::{Proc, wait_gone};
use wedge_integration::{Process, Rig};

use crate::counter::Counter;
use crate::subject::{BY_THE_RUNTIME, Subject, pause};
use crate::{skipped, sleeping};

/// Each of these functions is a test with runc, and one with crun.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        tests!(of_runc, Subject::Runc, $($name),*);
        tests!(of_crun, Subject::Crun, $($name),*);
    };
    ($module:ident, $subject:expr, $($name:ident),*) => {
        mod $module {
            use super::*;
            $(
                #[test]
                fn $name() -> Result<()> {
                    if skipped()? {
                        return Ok(());
                    }
                    super::$name($subject)
                }
            )*
        }
    };
}

tests!(
    only_create_is_started,
    what_was_never_started_needs_only_create,
    the_operator_can_have_all_by_the_runtime,
    a_wrapper_does_all_by_itself,
    the_runtime_works_on_what_the_shim_has_started,
    the_action_delete_removes_a_container,
);

/// All of a container's life but its deletion, with every command there is.
fn life(rig: &Rig) -> Result<()> {
    let pid = rig.run()?;
    let pids: Vec<u32> = rig.shim.pids(rig.id())?.processes.iter().map(|one| one.pid).collect();
    assert_eq!(pids, [pid]);
    pause(rig)?;
    rig.shim.resume(rig.id())?;
    let ran = rig.run_exec("e", &Process::new(["echo", "a"]))??;
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "a\n"));
    rig.shim.kill(rig.id(), "", 0, false)?;
    rig.shim.kill(rig.id(), "", 9, false)?;
    assert_eq!(rig.shim.wait(rig.id(), "")?.status, 137);
    rig.shim.kill(rig.id(), "", 9, true)?;
    Ok(())
}

/// What that and the deletion are when they are all the runtime's.
const LIFE: [&str; 10] =
    ["create", "start", "ps", "pause", "resume", "exec", "kill", "kill", "kill", "delete"];

/// The commands, with one `pause` for those it took.
fn life_of(counter: &Counter) -> Result<Vec<String>> {
    let mut commands = counter.take()?;
    commands.dedup_by(|next, last| next == last && next == "pause");
    Ok(commands)
}

fn only_create_is_started(subject: Subject) -> Result<()> {
    let (rig, counter) = subject.counted(subject.name(), &sleeping(), "")?;
    life(&rig)?;
    let state = rig.lab.state(&rig.bundle)?;
    ensure!(state.contains("; commands auto\n"), "{state}");
    ensure!(state.contains("1 native, 0 by the OCI runtime"), "{state}");
    ensure!(!state.contains("by the OCI runtime: "), "{state}");
    rig.shim.delete(rig.id(), "")?;
    assert_eq!(counter.take()?, ["create"]);
    rig.close()
}

fn what_was_never_started_needs_only_create(subject: Subject) -> Result<()> {
    let (rig, counter) = subject.counted(subject.name(), &sleeping(), "")?;
    rig.create()?;
    rig.shim.delete(rig.id(), "")?;
    assert_eq!(counter.take()?, ["create"]);
    rig.close()
}

fn the_operator_can_have_all_by_the_runtime(subject: Subject) -> Result<()> {
    let (rig, counter) = subject.counted(subject.name(), &sleeping(), BY_THE_RUNTIME)?;
    life(&rig)?;
    let state = rig.lab.state(&rig.bundle)?;
    ensure!(!state.contains("by the OCI runtime: "), "{state}");
    rig.shim.delete(rig.id(), "")?;
    assert_eq!(life_of(&counter)?, LIFE);
    rig.close()
}

/// Another name, and nobody knows what it does.
fn a_wrapper_does_all_by_itself(subject: Subject) -> Result<()> {
    let name = format!("{}-wrapper", subject.name());
    let (rig, counter) = subject.counted(&name, &sleeping(), "")?;
    life(&rig)?;
    let state = rig.lab.state(&rig.bundle)?;
    let reason = format!("by the OCI runtime: the OCI runtime is {}, not runc", counter.path());
    assert_eq!(state.matches(&reason).count(), 2, "{state}");
    rig.shim.delete(rig.id(), "")?;
    assert_eq!(life_of(&counter)?, LIFE);
    rig.close()
}

/// Its own commands between the shim's.
fn the_runtime_works_on_what_the_shim_has_started(subject: Subject) -> Result<()> {
    let (rig, counter) = subject.counted(subject.name(), &sleeping(), "")?;
    rig.create()?;
    assert_eq!(subject.status(&rig)?, "created");
    rig.shim.start(rig.id(), "")?;
    assert_eq!(subject.status(&rig)?, "running");
    rig.shim.pause(rig.id())?;
    assert_eq!(subject.status(&rig)?, "paused");
    subject.does(&rig, &["resume"])?;
    subject.pause(&rig)?;
    rig.shim.resume(rig.id())?;
    assert_eq!(subject.status(&rig)?, "running");
    subject.call(&rig, &["exec"], &["echo", "a"])?.assert_ok().assert_stdout("a\n");
    assert_eq!(rig.run_exec("e", &Process::new(["true"]))??.status, 0);
    subject.call(&rig, &["kill"], &["KILL"])?.assert_ok();
    assert_eq!(rig.shim.wait(rig.id(), "")?.status, 137);
    assert_eq!(subject.status(&rig)?, "stopped");
    rig.shim.delete(rig.id(), "")?;
    ensure!(subject.call(&rig, &["state"], &[])?.code != 0, "there is still a state");
    assert_eq!(counter.take()?, ["create"]);
    rig.close()
}

/// containerd calls the action `delete` for a shim that was killed, and for each that has ended.
fn the_action_delete_removes_a_container(subject: Subject) -> Result<()> {
    let (rig, counter) = subject.counted(subject.name(), &sleeping(), "")?;
    let init = Proc(rig.run()?);
    rig.shim.proc().signal(Signal::SIGKILL)?;
    wait_gone(rig.shim.proc())?;
    rig.lab.delete(&rig.bundle)?;
    wait_gone(init)?;
    assert_eq!(counter.take()?, ["create", "delete"]);
    rig.lab.delete(&rig.bundle)?;
    assert_eq!(counter.take()?, [""; 0]);
    rig.lab.finish()
}
