// SPDX-License-Identifier: Apache-2.0
//! The AppArmor profile the program starts with, `proc_pid_attr(5)`.

use wedge_setns_wire::{Plan, Stage};

use crate::call;
use crate::kernel::{errno, open};
use crate::report::{fail, step, unsupported};
use crate::sys::{Errno, Result};

/// The open attribute file, if there is a profile.
///
/// It is opened in a procfs of our own, which nobody else can reach: the container's `/proc` may be
/// masked or faked (CVE-2019-16884, CVE-2025-52881). Early, since that takes privileges.
pub(crate) fn prepare(plan: &Plan<'_>) -> Option<i32> {
    if plan.header().apparmor.len == 0 {
        return None;
    }
    match open_attribute() {
        Ok(file) => Some(file),
        // A user namespace may not make a procfs while its own is masked.
        Err(error) => unsupported(Stage::AppArmorOpen, error),
    }
}

fn open_attribute() -> Result<i32> {
    let proc = call::new_filesystem(c"proc")?;
    let own = call::open_at(proc, c"thread-self/attr/apparmor/exec", open::WRITE_ONLY);
    let file = match own {
        // Before Linux 5.8 there is only the shared name.
        Err(Errno(errno::ENOENT)) => {
            call::open_at(proc, c"thread-self/attr/exec", open::WRITE_ONLY)
        }
        other => other,
    };
    call::close(proc)?;
    file
}

/// Writes the profile; a failure is the end.
pub(crate) fn apply(plan: &Plan<'_>, file: Option<i32>) {
    let Some(file) = file else { return };
    const COMMAND: &[u8] = b"exec ";
    let profile = plan.string(plan.header().apparmor).to_bytes();
    let mut text = [0; 512];
    let length = COMMAND.len() + profile.len();
    if length > text.len() {
        fail(Stage::AppArmor, Errno(errno::EINVAL), profile);
    }
    for (place, byte) in text.iter_mut().zip(COMMAND.iter().chain(profile)) {
        *place = *byte;
    }
    step(plan, Stage::AppArmor, || {
        call::write(file, text.get(..length).unwrap_or_default())?;
        call::close(file)
    });
}
