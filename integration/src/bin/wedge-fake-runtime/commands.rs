// SPDX-License-Identifier: Apache-2.0
//! The runtime's commands, with runc's texts where shims look at them.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use serde_json::json;
use wedge_integration::fake_runtime::Step;

use crate::args::Invocation;
use crate::launch::launch;
use crate::state::{self, Identity, State, Status};

/// The bundle of a call: named, remembered, or where the log is.
pub(crate) fn bundle(invocation: &Invocation) -> Option<PathBuf> {
    let remembered = || State::load(invocation).ok().map(|state| state.bundle);
    let beside_log = || invocation.path("log")?.parent().map(Path::to_path_buf);
    invocation.path("bundle").or_else(remembered).or_else(beside_log).filter(|dir| dir.is_dir())
}

pub(crate) fn run(invocation: &Invocation, step: &Step) -> Result<()> {
    match invocation.command.as_str() {
        "create" => create(invocation, step),
        "start" => start(invocation, step),
        "exec" => exec(invocation, step),
        "kill" => signal(invocation),
        "delete" => delete(invocation),
        "ps" => ps(invocation),
        "state" => show(invocation),
        "update" => update(invocation),
        "pause" => change(invocation, Status::Running, Status::Paused),
        "resume" => change(invocation, Status::Paused, Status::Running),
        "checkpoint" => checkpoint(invocation),
        "features" => print(&json!({ "ociVersionMin": "1.0.0", "ociVersionMax": "1.1.0" })),
        other => bail!("unknown command {other:?}"),
    }
}

fn create(invocation: &Invocation, step: &Step) -> Result<()> {
    let dir = state::dir(invocation)?;
    let bundle = bundle(invocation).context("no bundle")?;
    ensure!(!dir.exists(), "container with given ID already exists");
    DirBuilder::new().recursive(true).mode(0o711).create(&dir)?;
    let fifo = dir.join("start.fifo");
    nix::unistd::mkfifo(&fifo, Mode::S_IRWXU)?;
    let (fifo, code) =
        (fifo.to_string_lossy().into_owned(), step.init_exits.map(|c| c.to_string()));
    let prefix = match &code {
        // What follows is never looked at.
        Some(code) => ["sh", "-c", &format!("exit {code}")].map(str::to_owned),
        None => ["wedge-payload", "await", &fifo].map(str::to_owned),
    };
    let prefix: Vec<&str> = prefix.iter().map(String::as_str).collect();
    let init = launch(&bundle, invocation, step, &prefix)
        .inspect_err(|_| drop(fs::remove_dir_all(&dir)))?;
    State::new(invocation.id()?, &bundle, init).save(invocation)
}

fn start(invocation: &Invocation, step: &Step) -> Result<()> {
    let mut state = State::load(invocation)?;
    let stopped = || state.status() == Status::Stopped;
    ensure!(!stopped(), "cannot start a container that has stopped");
    state.require(Status::Created)?;
    let fifo = state::dir(invocation)?.join("start.fifo");
    // The init may be on its way to opening it.
    let mut writer = loop {
        let nonblock = OFlag::O_NONBLOCK.bits();
        match OpenOptions::new().write(true).custom_flags(nonblock).open(&fifo) {
            Ok(file) => break file,
            Err(_) if stopped() => bail!("cannot start a container that has stopped"),
            Err(_) => thread::sleep(Duration::from_micros(200)),
        }
    };
    state.set(invocation, Status::Running)?;
    writer.write_all(&[0])?;
    if step.wait_for_exit { state.init.wait_exit() } else { Ok(()) }
}

fn exec(invocation: &Invocation, step: &Step) -> Result<()> {
    let state = State::load(invocation)?;
    match state.status() {
        Status::Stopped => bail!("cannot exec in a stopped container"),
        Status::Paused => {
            bail!("cannot exec in a paused container (use --ignore-paused to override)")
        }
        Status::Created | Status::Running => {}
    }
    let process = launch(&state.bundle, invocation, step, &[])?;
    state::add_exec(invocation, process)
}

fn signal(invocation: &Invocation) -> Result<()> {
    let state = State::load(invocation)?;
    let number: u32 = invocation.operand(1)?.parse().context("signal")?;
    let mut targets = vec![state.init];
    if invocation.has("all") {
        targets.extend(state::execs(invocation)?);
    } else {
        ensure!(state.init.is_alive(), "container not running");
    }
    targets.into_iter().filter(|target| target.is_alive()).try_for_each(|t| send(t, number))
}

/// Real-time signals have no safe call in nix.
fn send(target: Identity, number: u32) -> Result<()> {
    match Signal::try_from(i32::try_from(number)?) {
        Ok(signal) => Ok(kill(Pid::from_raw(i32::try_from(target.pid)?), signal)?),
        Err(_) => {
            let mut command = Command::new("/bin/busybox");
            command.args(["kill", &format!("-{number}"), &target.pid.to_string()]);
            ensure!(command.status()?.success(), "sending {number} to {}", target.pid);
            Ok(())
        }
    }
}

fn delete(invocation: &Invocation) -> Result<()> {
    let force = invocation.has("force");
    let state = match State::load(invocation) {
        Ok(state) => state,
        // A create that was killed half-way leaves a directory without a state.
        Err(_) if force => return Ok(fs::remove_dir_all(state::dir(invocation)?).or_else(gone)?),
        Err(error) => return Err(error),
    };
    let status = state.status();
    let (id, text) = (&state.id, format!("{status:?}").to_lowercase());
    let stopped = matches!(status, Status::Stopped | Status::Created) || force;
    ensure!(stopped, "cannot delete container {id} that is not stopped: {text}");
    let mut targets = vec![state.init];
    targets.extend(state::execs(invocation)?);
    for target in targets.into_iter().filter(|target| target.is_alive()) {
        end(target)?;
    }
    Ok(fs::remove_dir_all(state::dir(invocation)?)?)
}

/// Saves nothing; the container ends by it as runc's does.
fn checkpoint(invocation: &Invocation) -> Result<()> {
    let state = State::load(invocation)?;
    ensure!(state.init.is_alive(), "container not running");
    if invocation.has("leave-running") {
        return Ok(());
    }
    end(state.init)?;
    Ok(fs::remove_dir_all(state::dir(invocation)?)?)
}

fn end(target: Identity) -> Result<()> {
    send(target, 9)?;
    while target.is_alive() {
        thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

fn gone(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn ps(invocation: &Invocation) -> Result<()> {
    let state = State::load(invocation)?;
    let mut all = state::execs(invocation)?;
    all.extend(state.init.is_alive().then_some(state.init));
    let pids: Vec<u32> = all.iter().map(|process| process.pid).collect();
    // An empty list is what runc prints as null.
    print(&if pids.is_empty() { json!(null) } else { json!(pids) })
}

fn show(invocation: &Invocation) -> Result<()> {
    let state = State::load(invocation)?;
    let status = format!("{:?}", state.status()).to_lowercase();
    let pid = if state.init.is_alive() { state.init.pid } else { 0 };
    let (id, bundle) = (&state.id, &state.bundle);
    print(
        &json!({ "ociVersion": "1.0.2", "id": id, "pid": pid, "status": status, "bundle": bundle }),
    )
}

/// Keeps what it was given, for the test to read.
fn update(invocation: &Invocation) -> Result<()> {
    let state = State::load(invocation)?;
    let mut resources = String::new();
    io::stdin().read_to_string(&mut resources)?;
    Ok(fs::write(state.bundle.join("fake-runtime.update"), resources)?)
}

fn change(invocation: &Invocation, from: Status, to: Status) -> Result<()> {
    let mut state = State::load(invocation)?;
    state.require(from)?;
    state.set(invocation, to)
}

fn print(value: &serde_json::Value) -> Result<()> {
    Ok(writeln!(io::stdout(), "{value}")?)
}
