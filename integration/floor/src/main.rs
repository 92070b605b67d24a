// SPDX-License-Identifier: Apache-2.0
//! What the kernel takes for what a shim does, with nothing around it: `make bench` gives its
//! figures in multiples of these.
//!
//! It is a program of its own for two reasons. It forks, and the cost of a fork is the memory of
//! who does it: this one has less than any shim. And it needs clone3(2), which cannot be called
//! without unsafe code, and nothing else of `integration` has any. The processes are forked, not
//! cloned with `CLONE_VM`, as in the shim: a process that shares a shim's memory would take it
//! along when the kernel's OOM killer ends it.
//!
//! `exec PID N [PID]` (with the seccomp filter of the second), `create ROOTFS N`, `serve-start DIR N` print a line of nanoseconds for each of N.

mod cgroup;
mod create;
mod exec;
mod process;
mod raw;
mod seccomp;
mod serve;

use std::ffi::CStr;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::seccomp::Filter;

/// What an exec runs.
pub(crate) const TRUE: &CStr = c"/bin/true";
/// What a container's init is.
pub(crate) const PAUSE: &CStr = c"/bin/wedge-payload";

#[expect(clippy::print_stderr, reason = "a program's last words")]
fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wedge-floor {args:?}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[&str]) -> Result<()> {
    match args {
        ["exec", init, rounds, filtered @ ..] => {
            let filter = filtered.first().map(|pid| Filter::of(pid.parse()?)).transpose()?;
            let times = exec::run(init.parse()?, rounds.parse()?, filter.as_ref())?;
            times.iter().try_for_each(|times| print(times))
        }
        ["create", rootfs, rounds] => (0..rounds.parse()?).try_for_each(|number| {
            let life = create::run(Path::new(rootfs), number)?;
            print(&[life.create, life.start, life.kill, life.delete, life.cpu])
        }),
        ["serve-start", dir, rounds] => (0..rounds.parse()?)
            .try_for_each(|number| print(&[serve::run(Path::new(dir), number)?])),
        ["bind", socket] => serve::bind(Path::new(socket)),
        ["serve"] => serve::serve(),
        _ => bail!("unknown command"),
    }
}

fn print(times: &[Duration]) -> Result<()> {
    let words: Vec<String> = times.iter().map(|time| time.as_nanos().to_string()).collect();
    Ok(writeln!(std::io::stdout(), "{}", words.join(" "))?)
}
