// SPDX-License-Identifier: Apache-2.0
//! What tests run inside containers, and what the fake runtime starts in place of them: one
//! static program, so that a test does not depend on what a shell happens to do.
//!
//! `flood LEN`, `exit N`, `signal N`, `sleep MS`, `pause`, `print LEN [stderr]`, `cat`, `fds`, `status FIELD`,
//! `alloc MIB`, `block-term`, `children N`, `hold PATH MS`, `connect SOCKET`; and with a command to go on with:
//! `daemon CMD…`, `await FIFO CMD…`, `session TTY CMD…`, `orphan PIDFILE CMD…`.
#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "a test program starts and waits as it likes")]

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{getpid, setsid};
use wedge_integration::payload::pattern;
use wedge_integration::proc::Proc;

#[expect(clippy::print_stderr, reason = "a program's last words")]
fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    run(&args).unwrap_or_else(|error| {
        eprintln!("wedge-payload {args:?}: {error:#}");
        ExitCode::from(125)
    })
}

fn run(args: &[&str]) -> Result<ExitCode> {
    match args {
        ["exit", code] => return Ok(ExitCode::from(code.parse::<u8>()?)),
        ["signal", number] => signal_self(number.parse()?)?,
        ["sleep", ms] => thread::sleep(Duration::from_millis(ms.parse()?)),
        ["pause"] => pause(),
        ["print", len] => io::stdout().write_all(&pattern(len.parse()?))?,
        ["print", len, "stderr"] => io::stderr().write_all(&pattern(len.parse()?))?,
        ["flood", len] => flood(len.parse()?)?,
        ["cat"] => drop(io::copy(&mut io::stdin(), &mut io::stdout())?),
        ["fds"] => write!(io::stdout(), "{}", Proc(std::process::id()).fds()?)?,
        ["status", field] => {
            writeln!(io::stdout(), "{}", Proc(std::process::id()).status(field)?)?;
        }
        ["alloc", mib] => allocate(mib.parse()?)?,
        ["block-term"] => block_term()?,
        ["children", number] => children(number.parse()?)?,
        ["hold", path, ms] => hold(Path::new(path), ms.parse()?),
        ["connect", socket] => connect(Path::new(socket))?,
        ["daemon", command @ ..] => daemon(command)?,
        ["await", fifo, command @ ..] => {
            File::open(fifo)?.read_exact(&mut [0])?;
            replace(command)?;
        }
        ["session", tty, command @ ..] => {
            setsid()?;
            // The first terminal a session leader opens becomes its controlling terminal.
            let _tty = OpenOptions::new().read(true).write(true).open(tty)?;
            replace(command)?;
        }
        ["orphan", file, command @ ..] => {
            let child = prepare(command)?.spawn()?;
            fs::write(file, child.id().to_string())?;
        }
        _ => bail!("unknown command"),
    }
    Ok(ExitCode::SUCCESS)
}

/// The command; the payload itself may be named by any path.
fn prepare(command: &[&str]) -> Result<Command> {
    let (program, args) = command.split_first().context("a command must follow")?;
    let own = Path::new(program).file_name().is_some_and(|name| name == "wedge-payload");
    let program = if own { env::current_exe()? } else { program.into() };
    let mut prepared = Command::new(program);
    prepared.args(args);
    Ok(prepared)
}

/// Becomes the command.
fn replace(command: &[&str]) -> Result<()> {
    Err(prepare(command)?.exec()).context("exec")
}

/// Sleeps until killed.
fn pause() {
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

fn signal_self(number: i32) -> Result<()> {
    kill(getpid(), Signal::try_from(number)?)?;
    pause();
    Ok(())
}

/// Waits for a byte of standard input, then prints as much, and as fast as can be.
fn flood(len: usize) -> Result<()> {
    io::stdin().read_exact(&mut [0])?;
    let block = [0; 64 << 10];
    let mut output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    for _ in 0..len / block.len() {
        output.write_all(&block)?;
    }
    Ok(())
}

/// Touches memory page by page; says so and stays when it got all of it.
fn allocate(mib: usize) -> Result<()> {
    let mut blocks = Vec::new();
    for number in 0..mib {
        let mut block = vec![0_u8; 1 << 20];
        block.iter_mut().step_by(4096).for_each(|byte| *byte = number.to_le_bytes()[0] | 1);
        blocks.push(block);
    }
    writeln!(io::stdout(), "allocated {} MiB", std::hint::black_box(&blocks).len())?;
    pause();
    Ok(())
}

/// Lives on after SIGTERM and SIGINT. They are blocked rather than ignored, which needs no unsafe.
fn block_term() -> Result<()> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    set.thread_block()?;
    writeln!(io::stdout(), "blocked")?;
    pause();
    Ok(())
}

/// Starts processes that sleep; prints their pids and sleeps too.
fn children(number: u32) -> Result<()> {
    for _ in 0..number {
        let child = prepare(&["wedge-payload", "pause"])?.spawn()?;
        writeln!(io::stdout(), "{}", child.id())?;
    }
    pause();
    Ok(())
}

/// Leaves the command behind, in a session of its own, with our streams open.
fn daemon(command: &[&str]) -> Result<()> {
    let mut args = vec!["wedge-payload", "session", "/dev/null"];
    args.extend(command);
    let child = prepare(&args)?.spawn()?;
    writeln!(io::stdout(), "{}", child.id())?;
    Ok(())
}

/// Stays while `path` exists, at most `ms` milliseconds.
fn hold(path: &Path, ms: u64) {
    let end = Instant::now() + Duration::from_millis(ms);
    while path.exists() && Instant::now() < end {
        thread::sleep(Duration::from_millis(5));
    }
}

/// Connects, sends nothing, and prints what it gets until the other side closes the connection.
fn connect(socket: &Path) -> Result<()> {
    let mut stream = UnixStream::connect(socket).context("connecting")?;
    io::copy(&mut stream, &mut io::stdout())?;
    Ok(())
}
