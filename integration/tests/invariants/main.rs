// SPDX-License-Identifier: Apache-2.0
//! The invariants of docs/architecture.md, each by name, with races made on demand: the fake
//! runtime is held at the critical point, or is told to lose the race.
#![forbid(unsafe_code)]

mod answers;
mod ends;
mod oom;
mod order;
mod turns;
mod undo;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use wedge_integration::fake_runtime::Step;
use wedge_integration::proc::Proc;
use wedge_integration::{payload, wait};

/// Go's zero time, for processes that have not exited.
pub(crate) const NEVER: Option<(i64, i32)> = Some((-62_135_596_800, 0));

pub(crate) fn exit(code: u32) -> [String; 3] {
    [payload::PATH.to_owned(), "exit".to_owned(), code.to_string()]
}

/// Why some tests are not for the Go shim of Debian 12.
pub(crate) const NO_ORDER: &str = "its version does not order exits yet (containerd #9828)";

/// The runtime hands the process to the shim at once and returns only when it has exited.
pub(crate) fn loses_the_race() -> Step {
    Step { orphan: true, wait_for_exit: true, ..Step::default() }
}

/// Kills a process from outside, and waits until the shim has reaped it.
pub(crate) fn kill_and_reap(pid: u32) -> Result<()> {
    Proc(pid).signal(Signal::SIGKILL)?;
    wait::until("the process is reaped", || {
        let stat = Proc(pid).stat();
        ensure!(stat.is_err(), "{stat:?}");
        Ok(())
    })
}
