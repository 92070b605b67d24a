// SPDX-License-Identifier: Apache-2.0
//! Capability sets, capabilities(7).

use wedge_setns_wire::{Plan, Stage};

use crate::call;
use crate::joiner::Tolerate;
use crate::kernel::{CAP_SETPCAP, CAP_SYS_ADMIN, CapData, CapHeader, errno, nr, prctl};
use crate::report::step;
use crate::sys::{Result, syscall};

/// `_LINUX_CAPABILITY_VERSION_3`: two words a set.
const VERSION: u32 = 0x2008_0522;

#[derive(Clone, Copy, Default)]
struct Sets {
    effective: u64,
    permitted: u64,
    inheritable: u64,
}

/// The bounding set, and that another identity keeps the permitted one.
pub(crate) fn narrow(plan: &Plan<'_>) {
    step(plan, Stage::Bounding, || drop_bounding(plan));
    step(plan, Stage::KeepCaps, || call::prctl(prctl::SET_KEEPCAPS, 1, 0));
}

/// The rest of the sets; with `keep_admin`, CAP_SYS_ADMIN stays permitted but takes no effect.
pub(crate) fn set(plan: &Plan<'_>, keep_admin: bool) {
    step(plan, Stage::KeepCaps, || call::prctl(prctl::SET_KEEPCAPS, 0, 0));
    step(plan, Stage::Capabilities, || {
        let mut sets = wanted(plan);
        if keep_admin {
            sets.permitted |= CAP_SYS_ADMIN & get()?.permitted;
        }
        put(sets)
    });
}

/// Before the filter that needs it.
pub(crate) fn raise_admin() -> Result<()> {
    let sets = get()?;
    put(Sets { effective: sets.effective | (CAP_SYS_ADMIN & sets.permitted), ..sets })
}

/// After the filter: exactly what was asked for.
pub(crate) fn drop_admin(plan: &Plan<'_>) {
    step(plan, Stage::LastCapabilities, || put(wanted(plan)));
    ambient(plan);
}

/// The ambient set needs the others. What cannot be raised is left out, as runc does.
pub(crate) fn ambient(plan: &Plan<'_>) {
    let header = plan.header();
    step(plan, Stage::LastCapabilities, || {
        let clear = prctl::CAP_AMBIENT_CLEAR_ALL;
        call::prctl(prctl::CAP_AMBIENT, clear, 0).tolerate(&[errno::EINVAL])
    });
    for cap in (0..=header.last_cap.min(63)).filter(|cap| header.ambient & (1 << cap) != 0) {
        let raised = call::prctl(prctl::CAP_AMBIENT, prctl::CAP_AMBIENT_RAISE, cap as usize);
        _ = raised;
    }
}

fn wanted(plan: &Plan<'_>) -> Sets {
    let header = plan.header();
    Sets {
        effective: header.effective,
        permitted: header.permitted,
        inheritable: header.inheritable,
    }
}

fn drop_bounding(plan: &Plan<'_>) -> Result<()> {
    if get()?.effective & CAP_SETPCAP == 0 {
        return Ok(());
    }
    let header = plan.header();
    (0..=header.last_cap.min(63)).filter(|cap| header.bounding & (1 << cap) == 0).try_for_each(
        |cap| call::prctl(prctl::CAPBSET_DROP, cap as usize, 0).tolerate(&[errno::EINVAL]),
    )
}

fn get() -> Result<Sets> {
    let mut header = CapHeader { version: VERSION, pid: 0 };
    let mut data = [CapData::default(); 2];
    let args = [(&raw mut header).addr(), data.as_mut_ptr().addr()];
    // SAFETY: version 3 fills two structures; the header may be written too.
    unsafe { syscall(nr::CAPGET, args) }?;
    let [low, high] = data;
    let join = |low: u32, high: u32| u64::from(low) | (u64::from(high) << 32);
    Ok(Sets {
        effective: join(low.effective, high.effective),
        permitted: join(low.permitted, high.permitted),
        inheritable: join(low.inheritable, high.inheritable),
    })
}

fn put(sets: Sets) -> Result<()> {
    let mut header = CapHeader { version: VERSION, pid: 0 };
    let (effective, permitted, inheritable) =
        (halves(sets.effective), halves(sets.permitted), halves(sets.inheritable));
    let data = [
        CapData { effective: effective.0, permitted: permitted.0, inheritable: inheritable.0 },
        CapData { effective: effective.1, permitted: permitted.1, inheritable: inheritable.1 },
    ];
    // SAFETY: version 3 reads two structures; the header may be written.
    unsafe { syscall(nr::CAPSET, [(&raw mut header).addr(), data.as_ptr().addr()]) }.map(drop)
}

/// The low and the high word of a set.
fn halves(set: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = set.to_le_bytes();
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
}
