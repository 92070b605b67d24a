// SPDX-License-Identifier: Apache-2.0
//! An exec: a process that joins a container, and one born there that executes `/bin/true`.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use nix::unistd::Pid;

use crate::cgroup::Cgroup;
use crate::seccomp::Filter;
use crate::{TRUE, process, raw};

/// Execs in the container whose init is `init`, one after the other: how long each took, from its
/// first system call until both processes were waited for, and its CPU time.
pub(crate) fn run(init: i32, rounds: usize, filter: Option<&Filter>) -> Result<Vec<[Duration; 2]>> {
    let cgroup = Cgroup::of(init)?;
    (0..rounds).map(|_| once(Pid::from_raw(init), &cgroup, filter)).collect()
}

fn once(init: Pid, cgroup: &Cgroup, filter: Option<&Filter>) -> Result<[Duration; 2]> {
    let before = process::cpu()?;
    let begun = Instant::now();
    let Some(joiner) = raw::fork(0, cgroup.to_be_born_in()).context("clone3")? else {
        let Err(error) = join(init, cgroup, filter);
        process::give_up(&error);
    };
    // The two, in any order: the second is a child of ours too.
    process::reap(None, false).with_context(|| format!("joiner {joiner}"))?;
    process::reap(None, false)?;
    let took = begun.elapsed();
    Ok([took, process::cpu()? - before])
}

/// Life of the joiner; it does not come back.
fn join(init: Pid, cgroup: &Cgroup, filter: Option<&Filter>) -> Result<Infallible> {
    cgroup.join()?;
    let namespaces = CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS;
    setns(raw::pidfd(init).context("pidfd_open")?, namespaces).context("setns")?;
    // Only its children are in the pid namespace.
    let sibling = CloneFlags::CLONE_PARENT.bits().unsigned_abs();
    if raw::fork(sibling, None).context("clone3")?.is_some() {
        raw::leave(0);
    }
    process::become_program(TRUE, filter)
}
