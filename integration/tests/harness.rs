// SPDX-License-Identifier: Apache-2.0
//! The harness itself: what it records is what happened, what it scripts happens.
#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "a test leaves a process behind on purpose")]

use std::process::Command;
use std::thread;

use anyhow::Result;
use wedge_integration::fake_runtime::{Pause, Step};
use wedge_integration::proc::{FdKind, Proc, wait_gone};
use wedge_integration::rpc::{Code, assert_refused};
use wedge_integration::{Answer, Env, Lab, Process, Spec, Stdio, payload};

#[test]
fn a_real_container_lives_and_dies_without_containerd() -> Result<()> {
    let lab = Lab::new()?;
    let bundle =
        lab.bundle("c", &Spec::new(["sh", "-c", "echo out; read line; echo $line >&2"]))?;
    let shim = lab.start(&bundle)?;
    assert_eq!(shim.socket(), lab.socket(bundle.id()));
    let mut io = lab.fifos("init")?;
    let pid = shim.create(&bundle, io.stdio())?;
    assert_eq!(shim.start(bundle.id(), "")?, pid);
    io.stdout.wait_text("out\n")?;
    io.write(b"typed\n")?;
    assert_eq!(shim.wait(bundle.id(), "")?.status, 0);
    assert_eq!(shim.delete(bundle.id(), "")?.pid, pid);
    assert_eq!(io.stderr.finish()?, b"typed\n");
    let story = lab.events().log().story_until(bundle.id(), "delete")?;
    assert_eq!(story, ["create", "start", "exit 0", "delete 0"]);
    shim.shutdown()?;
    lab.finish()
}

#[test]
fn the_fake_runtime_plays_a_container() -> Result<()> {
    let lab = Lab::with_fake_runtime()?;
    let bundle = lab.bundle("c", &Spec::new([payload::PATH, "pause"]))?;
    let shim = lab.start(&bundle)?;
    let init = shim.create(&bundle, &Stdio::null())?;
    assert_eq!(Proc(init).stat()?.parent, shim.proc().0);
    shim.start(bundle.id(), "")?;
    let exec = Process::new([payload::PATH, "exit", "7"]);
    let io = lab.fifos("exec")?;
    shim.exec(bundle.id(), "e1", &exec, io.stdio())?;
    shim.start(bundle.id(), "e1")?;
    assert_eq!(shim.wait(bundle.id(), "e1")?.status, 7);
    shim.delete(bundle.id(), "e1")?;
    shim.kill(bundle.id(), "", 9, false)?;
    assert_eq!(shim.wait(bundle.id(), "")?.status, 137);
    shim.delete(bundle.id(), "")?;
    shim.shutdown()?;
    lab.finish()
}

#[test]
fn an_exec_may_exit_before_its_runtime_returns() -> Result<()> {
    let lab = Lab::with_fake_runtime()?;
    let bundle = lab.bundle("c", &Spec::new([payload::PATH, "pause"]))?;
    let shim = lab.start(&bundle)?;
    shim.create(&bundle, &Stdio::null())?;
    shim.start(bundle.id(), "")?;
    let fake = lab.fake(&bundle);
    let gate = fake.gate("exec", "after");
    let after = Pause { wait_for: Some(gate.path()), ..Pause::default() };
    fake.script("exec", Step { orphan: true, wait_for_exit: true, after, ..Step::default() })?;
    shim.exec(bundle.id(), "e1", &Process::new([payload::PATH, "exit", "3"]), &Stdio::null())?;
    thread::scope(|scope| {
        let start = scope.spawn(|| shim.start(bundle.id(), "e1"));
        fake.wait_call("exec")?;
        gate.open()?;
        start.join().unwrap().map(drop).map_err(anyhow::Error::from)
    })?;
    lab.events().log().wait(bundle.id(), "exit e1 3")?;
    let story = lab.events().log().story(bundle.id());
    assert_eq!(story, ["create", "start", "exec-added e1", "exec-started e1", "exit e1 3"]);
    shim.kill(bundle.id(), "", 9, true)?;
    lab.events().log().wait(bundle.id(), "exit 137")?;
    shim.delete(bundle.id(), "e1")?;
    shim.delete(bundle.id(), "")?;
    shim.shutdown()?;
    lab.finish()
}

#[test]
fn a_runtime_failure_has_the_scripted_message() -> Result<()> {
    let lab = Lab::with_fake_runtime()?;
    let bundle = lab.bundle("c", &Spec::new([payload::PATH, "pause"]))?;
    lab.fake(&bundle).script("create", Step::failing("no luck today"))?;
    let shim = lab.start(&bundle)?;
    let create = shim.create(&bundle, &Stdio::null());
    assert_refused(create, Code::UNKNOWN, "OCI runtime create failed: no luck today");
    assert_refused(
        shim.start(bundle.id(), ""),
        Code::NOT_FOUND,
        "container not created: not found",
    );
    assert_eq!(lab.fake(&bundle).commands()?, ["create"]);
    shim.shutdown()?;
    lab.finish()
}

#[test]
fn a_runtime_command_may_be_noisy_or_die() -> Result<()> {
    let lab = Lab::with_fake_runtime()?;
    let bundle = lab.bundle("c", &Spec::new([payload::PATH, "pause"]))?;
    let (shim, fake) = (lab.start(&bundle)?, lab.fake(&bundle));
    shim.create(&bundle, &Stdio::null())?;
    shim.start(bundle.id(), "")?;
    fake.script("update", Step { killed: true, ..Step::default() })?;
    assert!(shim.update(bundle.id(), "{}").is_err());
    fake.script("kill", Step { stderr_mib: 1, keep_stderr_open: true, ..Step::default() })?;
    shim.kill(bundle.id(), "", 9, false)?;
    assert_eq!(shim.wait(bundle.id(), "")?.status, 137);
    shim.delete(bundle.id(), "")?;
    assert_eq!(fake.commands()?, ["create", "start", "update", "kill", "delete"]);
    shim.shutdown()?;
    lab.finish()
}

#[test]
fn a_held_call_goes_on_when_the_gate_opens() -> Result<()> {
    let lab = Lab::with_fake_runtime()?;
    let bundle = lab.bundle("c", &Spec::new([payload::PATH, "exit", "0"]))?;
    let (shim, fake) = (lab.start(&bundle)?, lab.fake(&bundle));
    shim.create(&bundle, &Stdio::null())?;
    let gate = fake.hold_before("start")?;
    thread::scope(|scope| {
        let start = scope.spawn(|| shim.start(bundle.id(), ""));
        fake.wait_call("start")?;
        assert_eq!(lab.events().log().story_until(bundle.id(), "create")?, ["create"]);
        gate.open()?;
        start.join().unwrap().map(drop).map_err(anyhow::Error::from)
    })?;
    let story = lab.events().log().story_until(bundle.id(), "exit")?;
    assert_eq!(story, ["create", "start", "exit 0"]);
    shim.delete(bundle.id(), "")?;
    shim.shutdown()?;
    lab.finish()
}

#[test]
fn a_terminal_of_the_fake_runtime_is_one() -> Result<()> {
    let lab = Lab::with_fake_runtime()?;
    let bundle =
        lab.bundle("c", &Spec::new(["sh", "-c", "read line; tty -s && echo got $line"]))?;
    let shim = lab.start(&bundle)?;
    let mut io = lab.terminal("init")?;
    shim.create(&bundle, io.stdio())?;
    shim.start(bundle.id(), "")?;
    io.write(b"this\n")?;
    io.stdout.wait_text("got this\r\n")?;
    assert_eq!(shim.wait(bundle.id(), "")?.status, 0);
    shim.delete(bundle.id(), "")?;
    shim.shutdown()?;
    lab.finish()
}

#[test]
fn events_missed_by_the_server_come_later() -> Result<()> {
    let mut lab = Lab::with_fake_runtime()?;
    let bundle = lab.bundle("c", &Spec::new([payload::PATH, "pause"]))?;
    lab.events_mut().stop();
    let shim = lab.start(&bundle)?;
    shim.create(&bundle, &Stdio::null())?;
    lab.events_mut().restart()?;
    lab.events().log().wait(bundle.id(), "create")?;
    lab.events().answer(Answer::Refuse);
    shim.start(bundle.id(), "")?;
    lab.events().answer(Answer::Accept);
    lab.events().log().wait(bundle.id(), "start")?;
    shim.kill(bundle.id(), "", 9, false)?;
    lab.events().log().wait(bundle.id(), "exit 137")?;
    shim.delete(bundle.id(), "")?;
    shim.shutdown()?;
    lab.finish()
}

#[test]
fn the_delete_action_cleans_up_after_a_killed_shim() -> Result<()> {
    let lab = Lab::new()?;
    let bundle = lab.bundle("c", &Spec::new(["sleep", "1000"]))?;
    let shim = lab.start(&bundle)?;
    let pid = shim.create(&bundle, &Stdio::null())?;
    shim.start(bundle.id(), "")?;
    assert!(shim.proc().fds()?.count(FdKind::Socket) >= 1);
    Command::new("kill").args(["-9", &shim.proc().0.to_string()]).status()?;
    wait_gone(shim.proc())?;
    let (response, _) = lab.delete(&bundle)?;
    assert_eq!((response.pid, response.exit_status), (pid, 137));
    std::fs::remove_file(shim.socket()).ok();
    lab.finish()
}

#[test]
fn what_is_left_behind_is_found_and_removed() -> Result<()> {
    let env = Env::new()?;
    let container = env.container("forgotten")?.start(["sleep", "1000"])?;
    let (shim, init, dir) = (container.shim()?, container.init()?, env.dir().to_path_buf());
    let error = env.finish().unwrap_err().to_string();
    assert!(error.contains("process") && error.contains("cgroup"), "{error}");
    assert!(error.contains("runc state") && error.contains("socket"), "{error}");
    wait_gone(shim)?;
    wait_gone(init)?;
    // Kept for the reader of a failure, which this is not.
    Ok(std::fs::remove_dir_all(dir)?)
}
