// SPDX-License-Identifier: Apache-2.0
//! The first process: from the host's namespaces into the container's.

use wedge_setns_wire::{Plan, Stage, fd, flags};

use crate::call::{self, Plain};
use crate::kernel::{CLONE_NEWUSER, open, prctl};
use crate::nursery::NOT_OURS;
use crate::payload;
use crate::report::{fail, reach, step};
use crate::sys::{Errno, Result};
use crate::work::{self, Work};

/// With the descriptors of a request, which become 0, 1, 2, …
pub(crate) fn main(fds: &[i32; fd::COUNT]) -> ! {
    if take(fds).is_err() {
        // The control socket may be missing: its end says the rest.
        call::exit(NOT_OURS);
    }
    let plan = match work::read_plan(fd::PLAN) {
        Ok(plan) => plan,
        Err(error) => fail(Stage::Plan, error, b""),
    };
    let work = step(&plan, Stage::Plan, || Work::new(&plan));
    normalise(&plan);
    settle(&plan);
    join(&plan);
    if plan.has(flags::CRUN) {
        step(&plan, Stage::Session, || call::plain(Plain::SetSid, []));
    }
    match step(&plan, Stage::Clone, || call::fork(None)) {
        0 => payload::run(&plan, work),
        // With this end the payload becomes the child of the shim, the nearest sub-reaper.
        _ => call::exit(0),
    }
}

/// Each has a higher number than the one it becomes, and what has that was taken already.
fn take(fds: &[i32; fd::COUNT]) -> Result<()> {
    (0..).zip(fds).try_for_each(|(number, fd)| call::duplicate(*fd, number))
}

/// Undoes what was inherited from the shim.
fn normalise(plan: &Plan<'_>) {
    step(plan, Stage::Signals, call::await_children);
    if plan.has(flags::OOM_SCORE) {
        // Before it is not dumpable: the file then belongs to somebody else.
        step(plan, Stage::OomScore, || set_oom_score(plan.header().oom_score_adj));
    }
    step(plan, Stage::Dumpable, not_dumpable);
    step(plan, Stage::Descriptors, || {
        call::close(fd::PLAN)?;
        call::close_from(fd::INIT.cast_unsigned() + 1)
    });
}

/// No process of the container may look into this one, ptrace(2): not before it is the program.
pub(crate) fn not_dumpable() -> Result<()> {
    call::prctl(prctl::SET_DUMPABLE, 0, 0)
}

fn set_oom_score(score: i32) -> Result<()> {
    let file = call::open_file(c"/proc/self/oom_score_adj", open::WRITE_ONLY)?;
    let mut digits = [0; 12];
    call::write(file, decimal(score, &mut digits))?;
    call::close(file)
}

/// A number as text, for a file or a report.
pub(crate) fn decimal(number: i32, buffer: &mut [u8; 12]) -> &[u8] {
    let mut rest = number.unsigned_abs();
    let mut start = buffer.len();
    for (at, place) in buffer.iter_mut().enumerate().rev() {
        *place = b'0' + (rest % 10) as u8;
        start = at;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 && start > 0 {
        start -= 1;
        if let Some(sign) = buffer.get_mut(start) {
            *sign = b'-';
        }
    }
    buffer.get(start..).unwrap_or_default()
}

/// CPUs and cgroups. A cgroup's CPU set may narrow the mask, so the last one is set after it.
fn settle(plan: &Plan<'_>) {
    let header = plan.header();
    let initial = plan.slice(header.initial_cpus);
    if !initial.is_empty() {
        step(plan, Stage::InitialCpus, || call::set_affinity(initial));
    }
    if plan.entries(header.cgroups) > 0 {
        reach(plan, Stage::Cgroup);
        join_cgroups(plan);
    }
    let last = plan.slice(header.last_cpus);
    if !last.is_empty() {
        reach(plan, Stage::LastCpus);
        match call::set_affinity(last) {
            Err(error) if !plan.has(flags::CPUS_BEST_EFFORT) => fail(Stage::LastCpus, error, b""),
            Ok(()) | Err(_) => {}
        }
    }
}

fn join_cgroups(plan: &Plan<'_>) {
    let table = plan.header().cgroups;
    let mut last = None;
    for file in (0..plan.entries(table)).filter_map(|index| plan.entry(table, index)) {
        match join_cgroup(file) {
            Ok(()) if plan.has(flags::ANY_CGROUP) => return,
            Ok(()) => {}
            Err(error) if plan.has(flags::ANY_CGROUP) => last = Some((error, file)),
            // Also when it is gone (v1): without it the process would be limited by the shim's.
            Err(error) => fail(Stage::Cgroup, error, file.to_bytes()),
        }
    }
    if let Some((error, file)) = last {
        fail(Stage::Cgroup, error, file.to_bytes());
    }
}

fn join_cgroup(procs: &core::ffi::CStr) -> Result<()> {
    let file = call::open_file(procs, open::WRITE_ONLY)?;
    // 0 is the writer itself, cgroups(7).
    let written = call::write(file, b"0");
    call::close(file)?;
    written.map(drop)
}

fn join(plan: &Plan<'_>) {
    let namespaces = plan.header().namespaces;
    if namespaces != 0 {
        step(plan, Stage::Namespaces, || {
            call::plain(Plain::SetNs, [fd::INIT.cast_unsigned(), namespaces])
        });
    }
    if namespaces & CLONE_NEWUSER != 0 {
        step(plan, Stage::NamespaceRoot, || {
            call::plain(Plain::SetResGid, [0; 3])?;
            call::plain(Plain::SetResUid, [0; 3])?;
            // Changing credentials sets it to what fs.suid_dumpable says.
            not_dumpable()
        });
    }
    step(plan, Stage::Descriptors, || call::close(fd::INIT));
}

/// What a step does about an error of a kind.
pub(crate) trait Tolerate: Sized {
    /// Takes `errors` for success.
    fn tolerate(self, errors: &[i32]) -> Self;
}

impl Tolerate for Result<()> {
    fn tolerate(self, errors: &[i32]) -> Result<()> {
        match self {
            Err(Errno(error)) if errors.contains(&error) => Ok(()),
            other => other,
        }
    }
}
