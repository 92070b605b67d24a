// SPDX-License-Identifier: Apache-2.0
//! `make bench`: what an exec costs with Wedge, with and without its own exec path, and with
//! containerd's Go shim, in one run.
#![forbid(unsafe_code)]

mod exec;
mod figures;
mod unified;

use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};

const USAGE: &str = "usage: wedge-bench [--alone] [--unified] [--rounds N] [--pause MILLISECONDS]
  --unified   in a mount namespace of its own that has cgroup v2 only (no controllers there)
  --rounds N  execs of each kind, 200 by default
  --pause N   between two execs, 0 by default
  --alone     only Wedge's own exec path: for profilers";

/// What was asked for.
#[derive(Debug, Clone, Copy)]
struct Wishes {
    alone: bool,
    unified: bool,
    rounds: usize,
    pause: u64,
}

#[expect(clippy::print_stderr, reason = "a program's last words")]
fn main() -> ExitCode {
    match wishes().and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn wishes() -> Result<Wishes> {
    let mut wishes = Wishes { alone: false, unified: false, rounds: 200, pause: 0 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|text| text.parse().ok()).context(USAGE);
        match word.as_str() {
            "--alone" => wishes.alone = true,
            "--unified" => wishes.unified = true,
            "--rounds" => wishes.rounds = usize::try_from(number()?)?,
            "--pause" => wishes.pause = number()?,
            _ => bail!(USAGE),
        }
    }
    Ok(wishes)
}

fn run(wishes: Wishes) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "containers need root");
    if wishes.unified {
        unified::enter()?;
    }
    exec::compare(wishes)
}
