// SPDX-License-Identifier: Apache-2.0
//! An OCI runtime that does what a test tells it: see `wedge_integration::fake_runtime`.
#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "a test program starts and waits as it likes")]

mod args;
mod commands;
mod launch;
mod state;

use std::env;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::getpid;
use serde_json::json;
use wedge_integration::fake_runtime::{CALLS, Call, Pause, Step, reached, read_script};
use wedge_integration::helper;

use crate::args::Invocation;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let invocation = Invocation::parse(&args);
    match run(&args, &invocation) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&invocation, &failure),
    }
}

/// A command that did not succeed: the message for the log, and the exit code.
struct Failure {
    message: String,
    code: u8,
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure { message: format!("{error:#}"), code: 1 }
    }
}

fn run(args: &[String], invocation: &Invocation) -> Result<(), Failure> {
    let bundle = commands::bundle(invocation);
    let step = match &bundle {
        Some(bundle) => {
            record(bundle, args, invocation)?;
            step(bundle, invocation)?
        }
        None => Step::default(),
    };
    pause(&step.before)?;
    log_lines(invocation, &step.log)?;
    let code = step.exit_code.unwrap_or(1);
    if let Some(message) = &step.fail {
        return Err(Failure { message: message.clone(), code });
    }
    let done = commands::run(invocation, &step);
    print_noise(&step, bundle.as_deref())?;
    done?;
    pause(&step.after)?;
    if let Some(message) = &step.fail_late {
        return Err(Failure { message: message.clone(), code });
    }
    if step.killed {
        kill(getpid(), Signal::SIGKILL).context("killing myself")?;
    }
    Ok(())
}

/// As runc: an error line in the log, the same on standard error.
#[expect(clippy::print_stderr, reason = "a program's last words")]
fn fail(invocation: &Invocation, failure: &Failure) -> ExitCode {
    let line = json!({ "level": "error", "msg": failure.message, "time": "2024-01-01T00:00:00Z" });
    log_lines(invocation, &[line.to_string()]).ok();
    eprintln!("fake runtime: {}", failure.message);
    ExitCode::from(failure.code)
}

/// One write per line: calls may overlap.
fn record(bundle: &Path, args: &[String], invocation: &Invocation) -> Result<()> {
    let (command, pid) = (invocation.command.clone(), std::process::id());
    let call = Call { command, args: args.to_vec(), pid };
    let mut file = OpenOptions::new().create(true).append(true).open(bundle.join(CALLS))?;
    Ok(file.write_all(format!("{}\n", serde_json::to_string(&call)?).as_bytes())?)
}

/// The process's own step, else the script's, else the default.
fn step(bundle: &Path, invocation: &Invocation) -> Result<Step> {
    if let Some(json) = launch::own_step(bundle, invocation)? {
        return serde_json::from_str(&json).context("parsing the process's step");
    }
    Ok(read_script(bundle)?.remove(&invocation.command).unwrap_or_default())
}

fn pause(pause: &Pause) -> Result<()> {
    thread::sleep(Duration::from_millis(pause.sleep_ms));
    let Some(path) = &pause.wait_for else { return Ok(()) };
    std::fs::write(reached(path), "")?;
    let end = Instant::now() + Duration::from_secs(60);
    while !path.exists() {
        ensure!(Instant::now() < end, "nobody made {}", path.display());
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn log_lines(invocation: &Invocation, lines: &[String]) -> Result<()> {
    let Some(path) = invocation.flag("log") else { return Ok(()) };
    if lines.is_empty() {
        return Ok(());
    }
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    Ok(file.write_all(format!("{}\n", lines.join("\n")).as_bytes())?)
}

fn print_noise(step: &Step, bundle: Option<&Path>) -> Result<()> {
    io::stderr().write_all(step.stderr.as_bytes())?;
    for _ in 0..step.stderr_mib {
        io::stderr().write_all(&vec![b'x'; 1 << 20])?;
    }
    if let (true, Some(bundle)) = (step.keep_stderr_open, bundle) {
        let mut holder = Command::new(helper("wedge-payload")?);
        holder.arg("hold").arg(bundle).arg("5000");
        holder.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    }
    Ok(())
}
