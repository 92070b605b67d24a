// SPDX-License-Identifier: Apache-2.0
//! The life of containers as users of `ctr` see it.
#![forbid(unsafe_code)]

use anyhow::Result;
use wedge_integration::{Env, Spec, payload};

#[test]
fn run_returns_the_exit_code() -> Result<()> {
    let env = Env::new()?;
    env.run(["true"])?.assert_code(0);
    env.run(["sh", "-c", "exit 7"])?.assert_code(7);
    env.finish()
}

#[test]
fn run_copies_both_output_streams() -> Result<()> {
    let env = Env::new()?;
    let out = env.run(["sh", "-c", "echo out; echo err >&2"])?;
    out.assert_ok().assert_stdout("out\n").assert_stderr("err\n");
    env.finish()
}

#[test]
fn run_loses_no_byte_of_a_large_output() -> Result<()> {
    let env = Env::new()?;
    let out = env.container("print")?.run_read("wedge-payload print 5000000", (5_000_000, 0))?;
    payload::assert_pattern(&out.assert_ok().stdout, 5_000_000);
    env.finish()
}

#[test]
fn run_feeds_standard_input() -> Result<()> {
    let env = Env::new()?;
    let out = env.container("head")?.stdin("one\ntwo\n").run(["head", "-n", "2"])?;
    out.assert_ok().assert_stdout("one\ntwo\n");
    env.finish()
}

#[test]
fn run_on_a_terminal_has_a_terminal() -> Result<()> {
    let env = Env::new()?;
    let out = env.container("tty")?.terminal().run(["sh", "-c", "tty; exit 3"])?;
    assert_eq!(out.assert_code(3).text(), "/dev/pts/0\r\n");
    env.finish()
}

#[test]
fn a_killed_container_exits_with_128_and_the_signal() -> Result<()> {
    let env = Env::new()?;
    let container = env.container("victim")?.start(["sleep", "1000"])?;
    container.kill("KILL")?.assert_ok();
    assert_eq!(container.delete()?, 137);
    env.finish()
}

#[test]
fn a_real_time_signal_is_reported_exactly() -> Result<()> {
    let env = Env::new()?;
    let container = env.container("victim")?.start(["sleep", "1000"])?;
    // A pid 1 ignores signals it has no handler for, an exec'd process does not.
    container.exec(["sh", "-c", "echo up; kill -34 $$"])?.assert_code(162).assert_stdout("up\n");
    container.remove()?;
    env.finish()
}

#[test]
fn exec_returns_output_and_exit_code() -> Result<()> {
    let env = Env::new()?;
    let container = env.container("base")?.start(["sleep", "1000"])?;
    let out = container.exec(["sh", "-c", "echo out; echo err >&2; exit 5"])?;
    out.assert_code(5).assert_stdout("out\n").assert_stderr("err\n");
    container.exec_cmd(&[], ["cat"]).stdin("typed").output()?.assert_ok().assert_stdout("typed");
    container.exec(["no-such-program"])?.assert_error("executable file not found");
    container.remove()?;
    env.finish()
}

#[test]
fn ls_follows_the_life_of_a_task() -> Result<()> {
    let env = Env::new()?;
    let container = env.container("life")?.start(["sleep", "1000"])?;
    assert_eq!(container.task()?.status, "RUNNING");
    container.pause()?.assert_ok();
    assert_eq!(container.task()?.status, "PAUSED");
    container.resume()?.assert_ok();
    container.kill("KILL")?.assert_ok();
    container.wait_stopped()?;
    container.delete()?;
    assert_eq!(env.ctr().tasks()?, []);
    env.finish()
}

#[test]
fn a_paused_container_stands_still() -> Result<()> {
    let env = Env::new()?;
    let (container, mut run) = env.container("clock")?.spawn(["sh", "-c", "read go; echo went"])?;
    container.pause()?.assert_ok();
    run.write(b"go\n")?;
    container.exec(["true"])?.assert_error("paused");
    assert_eq!(run.stdout_so_far(), "");
    container.resume()?.assert_ok();
    run.wait()?.assert_ok().assert_stdout("went\n");
    env.ctr().cmd(["container", "delete", container.id()]).output()?.assert_ok();
    env.finish()
}

#[test]
fn a_running_task_cannot_be_deleted() -> Result<()> {
    let env = Env::new()?;
    let container = env.container("busy")?.start(["sleep", "1000"])?;
    container.delete_task()?.assert_error("must be stopped");
    assert_eq!(container.task()?.status, "RUNNING");
    container.remove()?;
    env.finish()
}

#[test]
fn events_come_in_the_order_of_the_facts() -> Result<()> {
    let env = Env::new()?;
    let events = env.events()?;
    let container = env.container("eventful")?.start(["sleep", "1000"])?;
    container.exec(["sh", "-c", "exit 3"])?.assert_code(3);
    container.pause()?.assert_ok();
    container.resume()?.assert_ok();
    assert_eq!(container.remove()?, 137);
    let story = events.story_until(container.id(), "delete")?;
    let exec = ["exec-added exec1", "exec-started exec1", "exit exec1 3"];
    let after = ["paused", "resumed", "exit 137", "delete 137"];
    assert_eq!(story, [&["create", "start"][..], &exec, &after].concat());
    let pids: Vec<u32> = events.of(container.id()).iter().map(|event| event.pid).collect();
    assert!(pids[0] > 1 && pids[0] == pids[1] && pids[0] == pids[8], "{pids:?}");
    assert!(pids[3] > 1 && pids[3] == pids[4], "{pids:?}");
    env.finish()
}

#[test]
fn an_oom_kill_is_reported_before_the_exit() -> Result<()> {
    let env = Env::new()?;
    let events = env.events()?;
    let launch = env.container("hog")?.memory_limit(16 << 20);
    let id = launch.id().to_owned();
    launch.run([payload::PATH, "alloc", "200"])?.assert_code(137);
    let story = events.story_until(&id, "delete")?;
    assert_eq!(story, ["create", "start", "oom", "exit 137", "delete 137"]);
    env.finish()
}

#[test]
fn containers_of_a_pod_share_a_shim() -> Result<()> {
    let env = Env::new()?;
    let pod = env.pod("pod")?;
    let pause = Spec::new([payload::PATH, "pause"]).pod(&pod);
    let first = env.container("first")?.config(&pause)?.start([""; 0])?;
    let second = env.container("second")?.config(&pause)?.start([""; 0])?;
    let shim = first.shim()?;
    assert!(second.shim().is_err(), "the second container has a shim of its own");
    assert_eq!(second.init()?.stat()?.parent, shim.0);
    second.exec(["echo", "hi"])?.assert_ok().assert_stdout("hi\n");
    second.remove()?;
    assert_eq!(first.task()?.status, "RUNNING");
    first.remove()?;
    env.finish()
}

#[test]
fn metrics_and_pids_are_those_of_the_container() -> Result<()> {
    let env = Env::new()?;
    let container = env.container("counted")?.start(["sh", "-c", "sleep 1000 & wait"])?;
    wedge_integration::wait::until("both processes run", || {
        let pids = container.pids()?;
        anyhow::ensure!(pids.len() == 2 && pids.contains(&container.init()?.0), "{pids:?}");
        Ok(())
    })?;
    let metrics = container.metrics()?;
    assert_eq!(metrics["pids"]["current"], 2, "{metrics}");
    container.remove()?;
    env.finish()
}

#[test]
fn both_runtime_names_start_the_shim() -> Result<()> {
    let env = Env::builder().runtime("io.containerd.wedge.v2").start()?;
    env.run(["echo", "wedge"])?.assert_ok().assert_stdout("wedge\n");
    let runc = env.container("runc")?.runtime("io.containerd.runc.v2");
    runc.run(["echo", "runc"])?.assert_ok().assert_stdout("runc\n");
    env.finish()
}

#[test]
fn a_container_outlives_a_restart_of_containerd() -> Result<()> {
    let mut env = Env::new()?;
    let container = env.container("steady")?.start(["sleep", "1000"])?;
    let (shim, init) = (container.shim()?, container.init()?);
    env.daemon_mut().restart()?;
    assert_eq!((container.shim()?, container.init()?), (shim, init));
    container.exec(["echo", "still here"])?.assert_ok().assert_stdout("still here\n");
    assert_eq!(container.remove()?, 137);
    env.finish()
}
