// SPDX-License-Identifier: Apache-2.0
//! The second process: inside, on its way to the program. The order is runc's, but for one thing:
//! everything that can be done before the seccomp filter is, so that a profile that is enough for
//! runc is enough here.

use wedge_setns_wire::{GO, Kind, Plan, Stage, fd, flags};

use crate::call::{self, Plain};
use crate::capabilities;
use crate::home;
use crate::identity;
use crate::joiner::{Tolerate, decimal, not_dumpable};
use crate::kernel::{errno, prctl};
use crate::label;
use crate::program;
use crate::report::{fail, reach, step, tell};
use crate::sys::Errno;
use crate::terminal;
use crate::work::Work;

pub(crate) fn run(plan: &Plan<'static>, mut work: Work) -> ! {
    // crun's leads a session only on a terminal.
    if !plan.has(flags::CRUN) || plan.has(flags::TERMINAL) {
        step(plan, Stage::Session, || call::plain(Plain::SetSid, []));
    }
    keyring(plan);
    if plan.has(flags::TERMINAL) {
        terminal::open(plan);
    }
    attributes(plan);
    limits(plan);
    let label = label::prepare(plan);
    let directory = identity::enter_directory(plan);
    if plan.has(flags::FIND_HOME) {
        home::find(plan, &mut work);
    }
    let found = plan.has(flags::CRUN).then(|| program::find_as_root(plan));
    let confinement = Confinement::of(plan);
    capabilities::narrow(plan);
    identity::change(plan);
    // Another identity sets it to what fs.suid_dumpable says.
    step(plan, Stage::Dumpable, not_dumpable);
    identity::check_directory(plan, directory, work.buffer);
    capabilities::set(plan, confinement == Confinement::WithAdmin);
    label::apply(plan, label);
    let program = found.unwrap_or_else(|| program::find(plan));
    step(plan, Stage::Descriptors, || call::close_from(fd::CONTROL.cast_unsigned() + 1));
    step(plan, Stage::Execute, || tell(Kind::Ready));
    match confinement {
        Confinement::WithAdmin => {
            step(plan, Stage::Seccomp, capabilities::raise_admin);
            confine(plan);
            capabilities::drop_admin(plan);
        }
        Confinement::Last => {
            capabilities::ambient(plan);
            confine(plan);
        }
        Confinement::None => capabilities::ambient(plan),
    }
    program::execute(plan, &work, program)
}

/// When the seccomp filter is loaded, seccomp(2): it takes `no_new_privs` or CAP_SYS_ADMIN.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Confinement {
    /// There is no filter.
    None,
    /// Last of all.
    Last,
    /// When all else is done, with CAP_SYS_ADMIN kept until then.
    WithAdmin,
}

impl Confinement {
    fn of(plan: &Plan<'_>) -> Confinement {
        let filter = !plan.slice(plan.header().seccomp).is_empty();
        match (filter, plan.has(flags::NO_NEW_PRIVS)) {
            (false, _) => Confinement::None,
            (true, true) => Confinement::Last,
            (true, false) => Confinement::WithAdmin,
        }
    }
}

fn confine(plan: &Plan<'_>) {
    let header = plan.header();
    step(plan, Stage::Seccomp, || {
        call::load_filter(plan.slice(header.seccomp), header.seccomp_flags)
    });
}

fn keyring(plan: &Plan<'_>) {
    let name = plan.string(plan.header().keyring);
    if plan.header().keyring.len > 0 {
        step(plan, Stage::Keyring, || call::join_session_keyring(name).tolerate(&[errno::ENOSYS]));
    }
}

fn attributes(plan: &Plan<'_>) {
    const WHO_PROCESS: u32 = 1;
    let header = plan.header();
    if plan.has(flags::NO_NEW_PRIVS) {
        step(plan, Stage::NoNewPrivs, || call::prctl(prctl::SET_NO_NEW_PRIVS, 1, 0));
    }
    if plan.has(flags::UMASK) {
        step(plan, Stage::NoNewPrivs, || call::plain(Plain::Umask, [header.umask]));
    }
    let scheduler = plan.slice(header.scheduler);
    if !scheduler.is_empty() {
        step(plan, Stage::Scheduler, || call::set_scheduler(scheduler));
    }
    if plan.has(flags::IO_PRIORITY) {
        let args = [WHO_PROCESS, 0, header.io_priority.cast_unsigned()];
        step(plan, Stage::IoPriority, || call::plain(Plain::IoprioSet, args));
    }
    if plan.has(flags::PERSONALITY) {
        let args = [header.personality];
        step(plan, Stage::Personality, || call::plain(Plain::Personality, args));
    }
}

/// Resource limits. In a user namespace this process may not raise them: the shim does it then. A
/// shim that died says nothing: then nothing happens here either.
fn limits(plan: &Plan<'_>) {
    reach(plan, Stage::Limits);
    for limit in plan.slice(plan.header().limits).chunks_exact(24) {
        if let Err((error, resource)) = set_limit(limit) {
            let mut digits = [0; 12];
            fail(Stage::Limits, error, decimal(resource, &mut digits));
        }
    }
    if !plan.has(flags::HELD) {
        return;
    }
    step(plan, Stage::Go, || tell(Kind::Waiting));
    step(plan, Stage::Go, || {
        let mut answer = [0];
        match call::read(fd::CONTROL, &mut answer)? {
            1 if answer == [GO] => Ok(()),
            0 => call::exit(1),
            _ => Err(Errno(errno::EINVAL)),
        }
    });
}

/// One limit of the plan; the error comes with its number.
fn set_limit(limit: &[u8]) -> Result<(), (Errno, i32)> {
    let broken = (Errno(errno::EINVAL), -1);
    let (number, values) = limit.split_first_chunk().ok_or(broken)?;
    let number = u64::from_ne_bytes(*number);
    let values = values.try_into().map_err(|_| broken)?;
    call::set_limit(number, values).map_err(|error| (error, i32::try_from(number).unwrap_or(-1)))
}
