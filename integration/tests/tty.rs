// SPDX-License-Identifier: Apache-2.0
//! Terminals: `ctr` on one end of a pty of ours, a process on the terminal of its container.
#![forbid(unsafe_code)]

use std::time::Duration;

use anyhow::{Result, ensure};
use wedge_integration::{Container, Env, Lab, Running, Spec, wait};

/// A shell that says its terminal's size whenever it is asked, until it is told to go.
const ASK: &str = "echo ready; while read line; do case $line in \
    size) size=$(stty size 2>/dev/null); echo ${size:-0 0};; *) exit 5;; esac; done";

fn base(env: &Env) -> Result<Container> {
    env.container("base")?.start(["sleep", "1000"])
}

/// Types `size` until the answer is `expected`: `ctr` forwards a change in its own time.
fn sized(session: &mut Running, expected: &str) -> Result<()> {
    wait::until(&format!("the terminal is {expected}"), || {
        let before = session.stdout_so_far().len();
        session.write(b"size\r")?;
        let answer = wait::until("the shell answers", || {
            let seen = session.stdout_so_far();
            let new = seen.get(before..).unwrap_or_default();
            let answer = new.lines().find(|line| line.starts_with(|c: char| c.is_ascii_digit()));
            ensure!(answer.is_some() && new.ends_with('\n'), "{new:?}");
            Ok(answer.unwrap_or_default().trim_end().to_owned())
        })?;
        ensure!(answer == expected, "{answer}");
        Ok(())
    })
}

fn resizes(mut session: Running) -> Result<()> {
    session.wait_stdout("ready\r\n")?;
    sized(&mut session, "24 80")?;
    session.resize(50, 132)?;
    sized(&mut session, "50 132")?;
    session.resize(7, 20)?;
    sized(&mut session, "7 20")?;
    session.write(b"bye\r")?;
    session.wait()?.assert_code(5);
    Ok(())
}

#[test]
fn the_terminal_of_a_container_follows_the_size_of_the_clients() -> Result<()> {
    let env = Env::new()?;
    let launch = env.container("term")?.terminal();
    resizes(launch.cmd(&["--rm"], ["sh", "-c", ASK]).spawn()?)?;
    env.finish()
}

#[test]
fn the_terminal_of_an_exec_follows_the_size_of_the_clients() -> Result<()> {
    let env = Env::new()?;
    let container = base(&env)?;
    resizes(container.exec_cmd(&["--tty"], ["sh", "-c", ASK]).terminal().spawn()?)?;
    container.remove()?;
    env.finish()
}

/// `ctr` sends the size after Start, when a short process may be gone.
#[test]
fn the_terminal_of_an_ended_container_takes_a_size() -> Result<()> {
    let lab = Lab::new()?;
    let bundle = lab.bundle("c", &Spec::new(["true"]).terminal())?;
    let shim = lab.start(&bundle)?;
    let io = lab.terminal("init")?;
    shim.create(&bundle, io.stdio())?;
    shim.start(bundle.id(), "")?;
    shim.wait(bundle.id(), "")?;
    shim.resize_pty(bundle.id(), "", 100, 30)?;
    shim.delete(bundle.id(), "")?;
    shim.shutdown()?;
    lab.finish()
}

#[test]
fn a_shell_on_a_terminal_is_interactive() -> Result<()> {
    let env = Env::new()?;
    let mut shell = env.container("shell")?.terminal().cmd(&["--rm"], ["sh"]).spawn()?;
    shell.wait_stdout("/ # ")?;
    shell.write(b"tty; test -t 0 -a -t 1 -a -t 2 && echo all three\r")?;
    shell.wait_stdout("/dev/pts/0\r\nall three\r\n")?;
    // Job control works: Ctrl-C ends the foreground job and not the shell.
    shell.write(b"sh -c 'echo job; exec sleep 1000'\r")?;
    shell.wait_stdout("\r\njob\r\n")?;
    shell.write(b"\x03")?;
    shell.write(b"echo code $?\r")?;
    shell.wait_stdout("\r\ncode 130\r\n")?;
    shell.write(b"exit 9\r")?;
    shell.wait()?.assert_code(9);
    env.finish()
}

#[test]
fn ctrl_c_reaches_a_container() -> Result<()> {
    let env = Env::new()?;
    let script = "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.1; done";
    let launch = env.container("int")?.terminal();
    let mut run = launch.cmd(&["--rm"], ["sh", "-c", script]).spawn()?;
    run.wait_stdout("ready\r\n")?;
    run.write(b"\x03")?;
    let out = run.wait()?;
    assert!(out.assert_code(5).text().ends_with("caught\r\n"), "{out}");
    env.finish()
}

#[test]
fn ctrl_c_reaches_an_exec() -> Result<()> {
    let env = Env::new()?;
    let container = base(&env)?;
    let args = ["sh", "-c", "echo ready; exec sleep 1000"];
    let mut exec = container.exec_cmd(&["--tty"], args).terminal().spawn()?;
    exec.wait_stdout("ready\r\n")?;
    exec.write(b"\x03")?;
    exec.wait()?.assert_code(130);
    container.remove()?;
    env.finish()
}

/// containerd's TestContainerExecLargeOutputWithTTY.
#[test]
fn a_large_output_on_a_terminal_is_complete() -> Result<()> {
    const LINES: u32 = 300_000;
    let env = Env::new()?;
    let expected: String = (1..=LINES).map(|n| format!("{n}\r\n")).collect();
    let seq = ["seq".to_owned(), "1".to_owned(), LINES.to_string()];
    let check = |text: &str| {
        assert!(text == expected, "{} of {} bytes: …{:?}", text.len(), expected.len(), tail(text));
    };
    let script = format!("stty -echo; seq 1 {LINES}");
    let run = env.container("seq")?.terminal().run_read(&script, (expected.len(), 0))?;
    check(&run.assert_ok().text());
    let container = base(&env)?;
    for _ in 0..3 {
        let out = container.exec_cmd(&["--tty"], &seq).terminal().output()?;
        check(&out.assert_ok().text());
    }
    container.remove()?;
    env.finish()
}

fn tail(text: &str) -> &str {
    text.get(text.len().saturating_sub(40)..).unwrap_or_default()
}

#[test]
fn a_detached_terminal_can_be_attached_later() -> Result<()> {
    let env = Env::new()?;
    let launch = env.container("later")?.terminal();
    let container = launch.start(["sh", "-c", ASK])?;
    // What was written until now, the detaching client may have shown.
    let mut attach = env.ctr().cmd(["task", "attach", container.id()]).terminal().spawn()?;
    attach.wait_raw()?;
    sized(&mut attach, "24 80")?;
    attach.resize(30, 100)?;
    sized(&mut attach, "30 100")?;
    attach.write(b"bye\r")?;
    attach.wait()?.assert_code(5);
    env.ctr().cmd(["container", "delete", container.id()]).output()?.assert_ok();
    env.finish()
}

#[test]
fn a_detached_exec_lives_on_without_its_client() -> Result<()> {
    let env = Env::new()?;
    let container = base(&env)?;
    let script = "tty; touch /run/up; exec sleep 1000";
    let flags = ["--tty", "--detach"];
    let exec = container.exec_cmd(&flags, ["sh", "-c", script]).terminal();
    exec.limit(Duration::from_secs(20)).output()?.assert_ok();
    wait::until("the exec runs", || {
        let out = container.exec(["ls", "/run/up"])?;
        ensure!(out.code == 0, "{out}");
        Ok(())
    })?;
    container.kill_exec("exec1", "KILL")?.assert_ok();
    wait::until("the exec is gone", || {
        let pids = container.pids()?;
        ensure!(pids.len() == 1, "{pids:?}");
        Ok(())
    })?;
    container.remove()?;
    env.finish()
}
