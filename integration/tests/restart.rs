// SPDX-License-Identifier: Apache-2.0
//! containerd goes away and comes back; containers, their output and their exits do not notice.
//!
//! It is away for five seconds, or with `WEDGE_LONG=1` for thirty: longer than the Go shim keeps
//! events for.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use protobuf::well_known_types::any::Any;
use wedge_integration::proc::{Proc, wait_gone};
use wedge_integration::{
    Answer, Capture, Container, Env, Lab, Process, ShimProcess, ShimUnderTest, Spec, Stdio,
    payload, wait,
};

#[test]
fn output_and_exits_of_an_outage_are_complete() -> Result<()> {
    let mut env = Env::builder().debug().start()?;
    let count = "until [ -e /go ]; do usleep 1000; done; i=0; \
        until [ -e /stop ]; do echo $i; i=$((i+1)); usleep 200; done; echo end";
    let container = env.container("writer")?.start(["sh", "-c", count])?;
    let output = Capture::open(&stdout_of(&env, &container)?);
    let wait = "until [ -e /leave ]; do usleep 1000; done; exit 7";
    container.exec_cmd(&["--detach"], ["sh", "-c", wait]).output()?.assert_ok();
    let exec = other_child(&container)?;
    touch(&env, "go")?;
    output.wait_text("10\n")?;

    let outage = Outage::begin(&mut env)?;
    touch(&env, "leave")?;
    wait_gone(exec)?;
    let seen = output.len();
    outage.end(&mut env)?;
    ensure!(output.len() > seen + 1000, "{seen} bytes, then {}", output.len());

    assert_eq!(container.task()?.status, "RUNNING");
    env.daemon().wait_log("topic=/tasks/exit")?;
    assert_eq!(delete_exec(&env, &container)?, 7);
    container.exec(["echo", "again"])?.assert_ok().assert_stdout("again\n");
    touch(&env, "stop")?;
    assert_eq!(container.delete()?, 0);
    assert_counted(&output)?;
    env.daemon().wait_log("topic=/tasks/delete")?;
    let exec = ["exec-added", "exec-started", "exit"];
    let expected = [&["create", "start"][..], &exec, &exec, &["exit", "delete"]].concat();
    assert_eq!(forwarded(&env), expected);
    env.finish()
}

#[test]
fn states_after_an_outage_are_those_of_the_containers() -> Result<()> {
    let mut env = Env::new()?;
    let start = |name| env.container(name)?.start(["sleep", "1000"]);
    let [running, paused, killed] = ["running", "paused", "killed"].map(start);
    let (running, paused, killed) = (running?, paused?, killed?);
    paused.pause()?.assert_ok();
    let (init, shims) = (killed.init()?, [running.shim()?, paused.shim()?, killed.shim()?]);
    env.daemon_mut().stop()?;
    init.signal(Signal::SIGKILL)?;
    wait_gone(init)?;
    env.daemon_mut().start()?;
    assert_eq!([running.shim()?, paused.shim()?, killed.shim()?], shims);
    assert_eq!(running.task()?.status, "RUNNING");
    assert_eq!(paused.task()?.status, "PAUSED");
    assert_eq!((killed.task()?.status.as_str(), killed.delete()?), ("STOPPED", 137));
    paused.exec(["true"])?.assert_error("paused");
    paused.resume()?.assert_ok();
    paused.exec(["echo", "hi"])?.assert_ok().assert_stdout("hi\n");
    assert_eq!((running.remove()?, paused.remove()?), (137, 137));
    env.finish()
}

#[test]
fn events_of_an_outage_come_in_order_and_once() -> Result<()> {
    if ShimUnderTest::skips_go("it reorders events it could not send, and drops them after 15 s")? {
        return Ok(());
    }
    let mut lab = Lab::with_fake_runtime()?;
    let bundle = lab.bundle("c", &Spec::new([payload::PATH, "pause"]))?;
    let shim = lab.start(&bundle)?;
    shim.create(&bundle, &Stdio::null())?;
    lab.events().log().wait(bundle.id(), "create")?;

    let begun = Instant::now();
    lab.events_mut().stop();
    shim.start(bundle.id(), "")?;
    let execs: Vec<String> = (0..20).map(|n| format!("e{n}")).collect();
    execs.iter().try_for_each(|exec| run_exec(&shim, bundle.id(), exec))?;
    shim.pause(bundle.id())?;
    shim.resume(bundle.id())?;
    wait_outage(begun)?;
    lab.events().answer(Answer::Refuse);
    lab.events_mut().restart()?;
    shim.kill(bundle.id(), "", 9, false)?;
    shim.wait(bundle.id(), "")?;
    lab.events().answer(Answer::Accept);

    let exec = |e: &String| {
        [format!("exec-added {e}"), format!("exec-started {e}"), format!("exit {e} 7")]
    };
    let mut expected = vec!["create".to_owned(), "start".to_owned()];
    expected.extend(execs.iter().flat_map(exec));
    expected.extend(["paused", "resumed", "exit 137", "delete 137"].map(str::to_owned));
    shim.delete(bundle.id(), "")?;
    assert_eq!(lab.events().log().story_until(bundle.id(), "delete")?, expected);
    shim.shutdown()?;
    assert_eq!(lab.events().log().story(bundle.id()), expected);
    lab.finish()
}

/// containerd takes an event and never answers.
#[test]
fn events_survive_a_hanging_containerd() -> Result<()> {
    if ShimUnderTest::skips_go("later events overtake the one that was not answered")? {
        return Ok(());
    }
    let lab = Lab::with_fake_runtime()?;
    let bundle = lab.bundle("c", &Spec::new([payload::PATH, "exit", "3"]))?;
    let shim = lab.start(&bundle)?;
    shim.create(&bundle, &Stdio::null())?;
    lab.events().log().wait(bundle.id(), "create")?;
    lab.events().answer(Answer::Hang);
    shim.start(bundle.id(), "")?;
    assert_eq!(shim.wait(bundle.id(), "")?.status, 3);
    shim.delete(bundle.id(), "")?;
    lab.events().answer(Answer::Accept);
    let story = lab.events().log().story_until(bundle.id(), "delete")?;
    assert_eq!(story, ["create", "start", "exit 3", "delete 3"]);
    shim.shutdown()?;
    lab.finish()
}

/// containerd #3266, #4906: nobody reads the shim's log meanwhile, and it fills.
#[test]
fn a_shim_that_logs_a_lot_works_without_containerd() -> Result<()> {
    let mut env = Env::builder().debug().start()?;
    let container = env.container("chatty")?.start(["sleep", "1000"])?;
    let address = fs::read_to_string(container.bundle().join("address"))?;
    let path = address.strip_prefix("unix://").context("no address")?;
    env.daemon_mut().stop()?;
    let shim = ShimProcess::connect(Path::new(path), Any::default())?;
    // More than a pipe holds: refusals of signals no process has, a line each.
    for number in 0..500 {
        shim.kill(container.id(), "", 1000 + number, false).unwrap_err();
    }
    run_exec(&shim, container.id(), "e")?;
    env.daemon_mut().start()?;
    env.daemon().wait_log("topic=/tasks/exit")?;
    assert_eq!(container.remove()?, 137);
    env.finish()
}

/// containerd #8856, #10082.
#[test]
fn an_exec_cut_off_from_its_client_leaves_no_descriptor() -> Result<()> {
    let mut env = Env::new()?;
    let container = env.container("c")?.start(["sleep", "1000"])?;
    let shim = container.shim()?;
    container.exec(["true"])?.assert_ok();
    let before = shim.fds()?.len();
    let client = container.exec_cmd(&[], ["sh", "-c", "echo up; exec sleep 1000"]).spawn()?;
    client.wait_stdout("up\n")?;
    let exec = other_child(&container)?;
    env.daemon_mut().kill()?;
    client.wait()?;
    env.daemon_mut().start()?;
    exec.signal(Signal::SIGKILL)?;
    wait_gone(exec)?;
    wait::until("the descriptors are closed", || {
        // Refused as long as the shim does not know of the exit.
        env.ctr().cmd(["task", "delete", "--exec-id", "exec2", container.id()]).output()?;
        let fds = shim.fds()?;
        ensure!(fds.len() <= before, "{before} were open, now\n{fds}");
        Ok(())
    })?;
    assert_eq!(container.remove()?, 137);
    env.finish()
}

/// A time without containerd.
struct Outage(Instant);

impl Outage {
    fn begin(env: &mut Env) -> Result<Outage> {
        env.daemon_mut().stop()?;
        Ok(Outage(Instant::now()))
    }

    fn end(self, env: &mut Env) -> Result<()> {
        wait_outage(self.0)?;
        env.daemon_mut().start()
    }
}

/// Waits until an outage has lasted as long as it shall.
fn wait_outage(begun: Instant) -> Result<()> {
    let long = std::env::var_os("WEDGE_LONG").is_some();
    let length = Duration::from_secs(if long { 30 } else { 5 });
    wait::until_for(length * 2, "the outage is over", || {
        ensure!(begun.elapsed() >= length, "{:?}", begun.elapsed());
        Ok(())
    })
}

/// Makes a file that a container's process waits for.
fn touch(env: &Env, name: &str) -> Result<()> {
    Ok(fs::write(env.rootfs().join(name), "")?)
}

/// The task events containerd got, from both its lives: at level debug it logs each.
fn forwarded(env: &Env) -> Vec<String> {
    let topic = |line: &str| {
        let (_, topic) = line.split_once("\"event forwarded\"")?.1.split_once("topic=/tasks/")?;
        Some(topic.split(' ').next()?.to_owned())
    };
    env.daemon().log().lines().filter_map(topic).collect()
}

/// The FIFO `ctr` made for a container's output and, being gone, does not read any more.
fn stdout_of(env: &Env, container: &Container) -> Result<PathBuf> {
    let name = format!("{}-stdout", container.id());
    let sets = fs::read_dir(env.ctr().fifo_dir())?.collect::<Result<Vec<_>, _>>()?;
    let mut paths = sets.into_iter().map(|set| set.path().join(&name));
    paths.find(|path| path.exists()).with_context(|| format!("no {name}"))
}

/// The one child of the shim that is not the init, nor there for all execs.
fn other_child(container: &Container) -> Result<Proc> {
    let (shim, init) = (container.shim()?, container.init()?);
    wait::until("the shim has two children", || {
        let others: Vec<Proc> = shim
            .children()
            .into_iter()
            .filter(|p| *p != init && Some(*p) != shim.nursery())
            .collect();
        let [other] = others.as_slice() else { bail!("{others:?}") };
        Ok(*other)
    })
}

/// Deletes the container's first exec; its exit code is that of `ctr`.
fn delete_exec(env: &Env, container: &Container) -> Result<i32> {
    let out = env.ctr().cmd(["task", "delete", "--exec-id", "exec1", container.id()]).output()?;
    Ok(out.code)
}

/// Runs `exit 7` in a container and deletes it.
fn run_exec(shim: &ShimProcess, id: &str, exec: &str) -> Result<()> {
    let process = Process::new([payload::PATH, "exit", "7"]);
    shim.exec(id, exec, &process, &Stdio::null())?;
    shim.start(id, exec)?;
    assert_eq!(shim.wait(id, exec)?.status, 7);
    shim.delete(id, exec)?;
    Ok(())
}

/// The whole output: each number once, in order, and the end.
#[expect(clippy::print_stdout, reason = "a figure for who reads the log")]
fn assert_counted(output: &Capture) -> Result<()> {
    let text = String::from_utf8(output.finish()?)?;
    let lines: Vec<&str> = text.lines().collect();
    let (last, numbers) = lines.split_last().context("no output")?;
    assert_eq!(*last, "end");
    let wrong = numbers.iter().enumerate().find(|(n, line)| **line != n.to_string());
    assert_eq!(wrong, None, "of {} lines", lines.len());
    println!("{} lines, none lost", lines.len());
    Ok(())
}
