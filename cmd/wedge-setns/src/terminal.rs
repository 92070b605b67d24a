// SPDX-License-Identifier: Apache-2.0
//! A terminal of the container's devpts, pts(4).

use wedge_setns_wire::{Plan, Stage};

use crate::call;
use crate::kernel::{DEVPTS_SUPER_MAGIC, S_IFCHR, S_IFMT, errno, open};
use crate::report::{reach, step, tell_terminal};
use crate::sys::{Errno, Result};

/// Opens one, gives the shim its master, and makes it the controlling terminal and 0, 1 and 2.
pub(crate) fn open(plan: &Plan<'_>) {
    let header = plan.header();
    let (master, peer) = step(plan, Stage::Terminal, open_pair);
    if let (Ok(rows @ 1..), Ok(columns @ 1..)) =
        (u16::try_from(header.rows), u16::try_from(header.columns))
    {
        step(plan, Stage::Terminal, || call::set_window_size(master, rows, columns));
    }
    step(plan, Stage::Terminal, || {
        tell_terminal(master)?;
        call::close(master)
    });
    reach(plan, Stage::ControllingTerminal);
    step(plan, Stage::ControllingTerminal, || {
        (0..3).try_for_each(|stream| call::duplicate(peer, stream))?;
        call::close(peer)?;
        call::control_terminal(0)
    });
}

fn open_pair() -> Result<(i32, i32)> {
    const PTMX: &core::ffi::CStr = c"/dev/pts/ptmx";
    // Looked at before it is opened, and again after: whatever else the container puts there is
    // not opened, or not used (CVE-2025-52565).
    let looked_at = call::open_file(PTMX, open::PATH | open::NOFOLLOW)?;
    check(looked_at)?;
    call::close(looked_at)?;
    let master = call::open_file(PTMX, open::READ_WRITE | open::NO_CTTY | open::NOFOLLOW)?;
    check(master)?;
    call::unlock_terminal(master)?;
    // By the master, not by a path.
    let peer = call::terminal_peer(master)?;
    Ok((master, peer))
}

/// The multiplexer of a devpts is its inode 2 and device 5:2.
fn check(fd: i32) -> Result<()> {
    let state = call::state(fd, None)?;
    let multiplexer = state.mode & S_IFMT == S_IFCHR
        && (state.rdev_major, state.rdev_minor) == (5, 2)
        && state.inode == 2
        && call::filesystem(fd)? == DEVPTS_SUPER_MAGIC;
    if multiplexer { Ok(()) } else { Err(Errno(errno::EINVAL)) }
}
