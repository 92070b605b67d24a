// SPDX-License-Identifier: Apache-2.0
//! Standard streams without a terminal, through `ctr` and containerd.
#![forbid(unsafe_code)]

use std::io::{Read, pipe};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::time::{Duration, Instant};
use std::{fs, mem, thread};

use anyhow::{Context, Result, ensure};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::json;
use wedge_integration::proc::{Proc, wait_gone};
use wedge_integration::{
    Env, Lab, Output, Process, Rig, ShimUnderTest, Spec, Stdio, payload, wait,
};

/// More than the ten seconds Delete waits for output that somebody still holds open, and far less
/// than who holds it here lives.
const DRAIN: Duration = Duration::from_secs(25);

#[test]
#[expect(clippy::disallowed_methods, reason = "a slow reader has to be slow")]
fn a_slow_reader_gets_every_byte() -> Result<()> {
    const LEN: usize = 50_000_000;
    let env = Env::new()?;
    let container = env.container("base")?.start(["sleep", "1000"])?;
    let (mut reader, writer) = pipe()?;
    let slow = thread::spawn(move || -> Result<Vec<u8>> {
        let (mut seen, mut block) = (Vec::with_capacity(LEN), vec![0; 100_000]);
        // Late to begin with, and slower than the writer all the way.
        thread::sleep(Duration::from_secs(1));
        loop {
            let len = reader.read(&mut block)?;
            let Some(read @ [_, ..]) = block.get(..len) else { return Ok(seen) };
            seen.extend_from_slice(read);
            thread::sleep(Duration::from_micros(500));
        }
    });
    let flood = container.exec_cmd(&[], [payload::PATH, "print", &LEN.to_string()]);
    flood.stdout(writer).limit(Duration::from_secs(120)).output()?.assert_ok();
    payload::assert_pattern(&slow.join().unwrap()?, LEN);
    container.remove()?;
    env.finish()
}

#[test]
fn both_streams_are_complete_and_apart() -> Result<()> {
    let env = Env::new()?;
    let script = "wedge-payload print 3000000 & wedge-payload print 2000000 stderr; wait";
    let check = |out: &Output| {
        payload::assert_pattern(&out.assert_ok().stdout, 3_000_000);
        payload::assert_pattern(&out.stderr, 2_000_000);
    };
    check(&env.container("both")?.run_read(script, (3_000_000, 2_000_000))?);
    let container = env.container("base")?.start(["sleep", "1000"])?;
    check(&container.exec(["sh", "-c", script])?);
    container.remove()?;
    env.finish()
}

#[test]
fn standard_input_ends_when_the_client_closes_it() -> Result<()> {
    let env = Env::new()?;
    let container = env.container("base")?.start(["sleep", "1000"])?;
    let sent = payload::pattern(4_000_000);
    let out = container.exec_cmd(&[], [payload::PATH, "cat"]).stdin(sent).output()?;
    payload::assert_pattern(&out.assert_ok().stdout, 4_000_000);
    container.remove()?;
    env.finish()
}

/// `ctr` may see the end of its input before the process runs.
#[test]
fn standard_input_may_end_before_the_process_starts() -> Result<()> {
    let lab = Lab::new()?;
    let bundle = lab.bundle("c", &Spec::new(["sleep", "1000"]))?;
    let shim = lab.start(&bundle)?;
    shim.create(&bundle, &Stdio::null())?;
    shim.start(bundle.id(), "")?;
    let io = lab.fifos("exec")?;
    shim.exec(bundle.id(), "e1", &Process::new(["wc", "-c"]), io.stdio())?;
    if !lab.shim().is_go() {
        shim.close_io(bundle.id(), "e1")?;
    }
    shim.start(bundle.id(), "e1")?;
    if lab.shim().is_go() {
        // It forgets an earlier one, and the process waits for ever.
        shim.close_io(bundle.id(), "e1")?;
    }
    assert_eq!(shim.wait(bundle.id(), "e1")?.status, 0);
    shim.delete(bundle.id(), "e1")?;
    assert_eq!(io.stdout.finish()?, b"0\n");
    shim.kill(bundle.id(), "", 9, false)?;
    shim.wait(bundle.id(), "")?;
    shim.delete(bundle.id(), "")?;
    shim.shutdown()?;
    lab.finish()
}

#[test]
fn a_reader_may_disappear_and_another_may_come() -> Result<()> {
    let env = Env::new()?;
    let script = "i=0; while :; do i=$((i+1)); echo line $i; done";
    let (container, run) = env.container("talker")?.spawn(["sh", "-c", script])?;
    run.wait_stdout("line 100\n")?;
    run.signal(Signal::SIGKILL)?;
    let seen = run.wait()?.assert_code(137).text();
    // Nobody reads: the process has to wait, everything else goes on.
    let init = container.init()?;
    let mut before = String::new();
    wait::until("the process waits for a reader", || {
        let call = fs::read_to_string(init.path("wchan"))?;
        let written = fs::read_to_string(init.path("io"))?;
        let goes_on = mem::replace(&mut before, written) != before;
        ensure!(
            call.contains("pipe_write") && !goes_on,
            "it is in {call:?}; it goes on: {goes_on}"
        );
        Ok(())
    })?;
    container.exec(["echo", "alive"])?.assert_ok().assert_stdout("alive\n");
    let attach = env.ctr().cmd(["task", "attach", container.id()]).spawn()?;
    // What the dead reader had read and not shown is lost with it, nothing else.
    let last = |text: &str| {
        let lines = text.lines().filter_map(|line| line.strip_prefix("line ")?.parse().ok());
        lines.fold(0_u64, u64::max)
    };
    let shown = last(&seen);
    wait::until("the new reader sees lines well after those", || {
        let now = last(&attach.stdout_so_far());
        ensure!(now > shown + 20_000, "{shown}, then {now}");
        Ok(())
    })?;
    let text = attach.stdout_so_far();
    let numbers: Vec<u64> =
        text.lines().filter_map(|line| line.strip_prefix("line ")?.parse().ok()).collect();
    // The first line may be cut by the change of readers, the last by this look at it.
    let whole = &numbers[1..numbers.len() - 1];
    assert!(whole.windows(2).all(|pair| pair[1] == pair[0] + 1), "a line is missing");
    container.kill("KILL")?.assert_ok();
    attach.wait()?;
    env.ctr().cmd(["container", "delete", container.id()]).output()?.assert_ok();
    env.finish()
}

#[test]
fn an_exec_ends_though_a_child_of_it_holds_the_output() -> Result<()> {
    let env = Env::new()?;
    let container = env.container("base")?.start(["sleep", "1000"])?;
    let out = container.exec(["sh", "-c", "sleep 100 & echo started"])?;
    out.assert_ok().assert_stdout("started\n");
    assert!(out.took < DRAIN, "{out}");
    assert_eq!(container.task()?.status, "RUNNING");
    container.remove()?;
    env.finish()
}

#[test]
fn a_task_is_deleted_though_a_stranger_holds_its_output() -> Result<()> {
    let env = Env::new()?;
    let container = env.container("host")?.start([payload::PATH, "pause"])?;
    // A process of the host that took the init's output over: killing the container spares it.
    let output = container.init()?.path("fd/1");
    let hold = format!("exec sleep 60 >{}", output.display());
    let holder = wedge_integration::Cmd::new("sh").args(["-c", &hold]).spawn()?;
    wait::until("the output is taken over", || {
        let target = fs::read_link(Proc(holder.pid()).path("fd/1"))?;
        ensure!(target == fs::read_link(&output)?, "{target:?}");
        Ok(())
    })?;
    container.kill("KILL")?.assert_ok();
    container.wait_stopped()?;
    let out = container.delete_task()?;
    assert!(out.assert_ok().took < DRAIN, "{out}");
    env.ctr().cmd(["container", "delete", container.id()]).output()?.assert_ok();
    holder.signal(Signal::SIGKILL)?;
    wait_gone(Proc(holder.pid()))?;
    env.finish()
}

#[test]
fn a_process_has_its_three_descriptors_and_no_more() -> Result<()> {
    let env = Env::new()?;
    let container = env.container("clean")?.start(["sleep", "1000"])?;
    wait::until("the init is its program", || {
        let args = container.init()?.args()?;
        ensure!(args == ["sleep", "1000"], "{args:?}");
        Ok(())
    })?;
    // containerd #3481.
    let out = container.exec(["ls", "/proc/1/fd"])?;
    out.assert_ok().assert_stdout("0\n1\n2\n");
    let exec = container.exec(["sh", "-c", "ls /proc/$$/fd; true"])?;
    exec.assert_ok().assert_stdout("0\n1\n2\n");
    // With a terminal, too.
    let tty = container.exec_cmd(&["--tty"], ["cat"]).terminal().spawn()?;
    let is_cat = |p: &Proc| p.args().is_ok_and(|args| args.first().is_some_and(|a| a == "cat"));
    let cat = || container.pids()?.into_iter().map(Proc).find(is_cat).context("no cat yet");
    let fds = wait::until("cat runs", cat)?.fds()?;
    assert_eq!(fds.0.keys().copied().collect::<Vec<_>>(), [0, 1, 2], "{fds}");
    container.kill_exec("exec3", "KILL")?.assert_ok();
    tty.wait()?.assert_code(137);
    container.remove()?;
    env.finish()
}

/// containerd gives up an output that it has not got to open yet when it hears of the exit, which
/// on a busy node comes first: an exec is over in a millisecond.
#[test]
fn an_exit_waits_a_little_for_its_output_to_be_read() -> Result<()> {
    if ShimUnderTest::skips_go("its execs take longer than a client")? {
        return Ok(());
    }
    let rig = Rig::telling(Lab::new()?, &Spec::new(["sleep", "1000"]))?;
    rig.run()?;
    let (mut client, stdio) = unread(&rig)?;
    rig.shim.exec(rig.id(), "e", &Process::new(["echo", "text"]), &stdio)?;
    let begun = Instant::now();
    rig.shim.start(rig.id(), "e")?;
    assert_eq!(rig.shim.wait(rig.id(), "e")?.status, 0);
    ensure!(begun.elapsed() >= Duration::from_millis(250), "{:?}", begun.elapsed());
    let mut text = [0; 5];
    client.read_exact(&mut text)?;
    assert_eq!(&text, b"text\n");
    rig.shim.delete(rig.id(), "e")?;
    rig.end()
}

/// A FIFO that is open at its other end, and not read.
fn unread(rig: &Rig) -> Result<(fs::File, Stdio)> {
    let path = rig.lab.dir().join("unread");
    mkfifo(&path, Mode::S_IRWXU)?;
    let nonblock = OFlag::O_NONBLOCK.bits();
    let client = fs::File::options().read(true).custom_flags(nonblock).open(&path)?;
    let stdio = Stdio { stdout: path.to_string_lossy().into_owned(), ..Stdio::null() };
    Ok((client, stdio))
}

/// Also when it has waited for its execs before.
#[test]
fn the_exit_of_an_init_that_had_execs_waits_for_its_output_too() -> Result<()> {
    if ShimUnderTest::skips_go("it does not wait for clients")? {
        return Ok(());
    }
    // An exec outlives its init only in a pid namespace that is not their own.
    let spec = Spec::new(["sh", "-c", "echo text; exec sleep 1000"]).host_pid();
    let rig = Rig::on(Lab::new()?, &spec)?;
    let (client, stdio) = unread(&rig)?;
    rig.shim.create(&rig.bundle, &stdio)?;
    rig.shim.start(rig.id(), "")?;
    rig.exec("e", ["sleep", "1000"])?;
    wait::until("the output has come", || {
        let mut output = [PollFd::new(client.as_fd(), PollFlags::POLLIN)];
        ensure!(poll(&mut output, PollTimeout::ZERO)? == 1, "not yet");
        Ok(())
    })?;
    let begun = Instant::now();
    rig.shim.kill(rig.id(), "", 15, false)?;
    assert_eq!(rig.shim.wait(rig.id(), "")?.status, 143);
    ensure!(begun.elapsed() >= Duration::from_millis(250), "{:?}", begun.elapsed());
    let story = rig.story_until("exit 143")?;
    assert_eq!(story[story.len() - 2..], ["exit e 137", "exit 143"], "{story:?}");
    rig.retire()
}

/// containerd #8924: nodes give services a low soft limit and a high hard one.
#[test]
fn only_the_shim_may_have_more_descriptors() -> Result<()> {
    if ShimUnderTest::skips_go("its execs have the limit of a runc by an older Go")? {
        return Ok(());
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, 1000, hard)?;
    let spec = Spec::new(["sleep", "1000"]).set("/process/rlimits", json!([]));
    let rig = Rig::telling(Lab::new()?, &spec)?;
    rig.run()?;
    let limits = fs::read_to_string(rig.shim.proc().path("limits"))?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let hard = hard.to_string();
    let limits: Vec<&str> = line.context("no limit")?.split_whitespace().take(2).collect();
    assert_eq!(limits, [&*hard, &*hard]);
    // Not of the init: a runc that was built by an older Go hands on its own.
    let process = Process::new(["sh", "-c", "ulimit -Sn"]).set("rlimits", json!([]));
    assert_eq!(rig.run_exec("e", &process)??.stdout, "1000\n");
    rig.end()
}

#[test]
fn a_process_starts_with_no_signal_blocked_or_ignored() -> Result<()> {
    let env = Env::new()?;
    let container = env.container("clean")?.start(["sleep", "1000"])?;
    // The Go shim passes on what its caller ignores above 31; nextest is linked with musl, whose
    // posix_spawn(3) leaves 32 to 34 ignored.
    let counted = if env.shim().is_go() { 0x7fff_ffff } else { u64::MAX };
    for process in ["/proc/1/status", "/proc/self/status"] {
        let out = container.exec(["grep", "-E", "^Sig(Blk|Ign)", process])?;
        let masks = out.assert_ok().text();
        let masks: Vec<&str> = masks.split_whitespace().collect();
        let ["SigBlk:", blocked, "SigIgn:", ignored] = masks[..] else { panic!("{out}") };
        let mask = |hex| u64::from_str_radix(hex, 16).map(|mask| mask & counted);
        assert_eq!((mask(blocked)?, mask(ignored)?), (0, 0), "{out}");
    }
    container.remove()?;
    env.finish()
}

#[test]
fn a_runtime_may_be_the_path_of_its_shim() -> Result<()> {
    let env = Env::new()?;
    let path = env.shim().path().canonicalize()?;
    let launch = env.container("path")?.runtime(path.to_str().context("not UTF-8")?);
    launch.run(["echo", "by path"])?.assert_ok().assert_stdout("by path\n");
    env.finish()
}

/// Drop-in use: the daemon finds the shim under test by the name of containerd's own.
#[test]
fn a_plain_ctr_run_needs_no_flag() -> Result<()> {
    let env = Env::new()?;
    let id = env.container("plain")?.id().to_owned();
    let run = env.ctr().cmd(["run", "--rm", "--rootfs", "--env", "PATH=/bin"]);
    run.arg(env.rootfs()).args([&id, "echo", "hi"]).output()?.assert_ok().assert_stdout("hi\n");
    env.finish()
}

#[test]
fn another_runtime_binary_is_called_for_everything() -> Result<()> {
    let env = Env::new()?;
    let (wrapper, calls) = (env.dir().join("wrapper"), env.dir().join("calls"));
    // Which of runc's commands is the first word that is neither a flag nor a flag's value.
    let script = format!(
        "#!/bin/sh\nfor word; do case $word in create|start|exec|kill|delete)\n\
         echo $word >>{}; break;; esac; done\nexec runc \"$@\"\n",
        calls.display()
    );
    fs::write(&wrapper, script)?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    let binary = format!("--runc-binary={}", wrapper.display());
    let container = env.container("wrapped")?.flags([binary]).start(["sleep", "1000"])?;
    container.exec(["echo", "hi"])?.assert_ok().assert_stdout("hi\n");
    assert_eq!(container.remove()?, 137);
    let calls = fs::read_to_string(calls)?;
    let mut calls: Vec<&str> = calls.lines().collect();
    // The daemon may run the action `delete` after the shim has gone.
    calls.dedup();
    assert_eq!(calls, ["create", "start", "exec", "kill", "delete"]);
    env.finish()
}
