// SPDX-License-Identifier: Apache-2.0
//! User, groups, working directory.

use wedge_setns_wire::{Plan, Stage, flags};

use crate::call::{self, Plain};
use crate::joiner::Tolerate;
use crate::kernel::{S_IFBLK, S_IFCHR, S_IFMT, errno};
use crate::report::{fail, reach, step};
use crate::sys::{Errno, Result};

/// Whether the process is in its working directory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Directory {
    Entered,
    /// Only the user itself may enter it: NFS without root, FUSE.
    Later,
}

pub(crate) fn enter_directory(plan: &Plan<'_>) -> Directory {
    reach(plan, Stage::WorkingDirectory);
    match call::change_directory(plan.string(plan.header().cwd)) {
        Ok(()) => Directory::Entered,
        Err(Errno(errno::EACCES | errno::EPERM)) => Directory::Later,
        Err(error) => fail(Stage::WorkingDirectory, error, b""),
    }
}

/// Becomes the user. Before: the standard streams become the user's.
pub(crate) fn change(plan: &Plan<'_>) {
    let header = plan.header();
    for stream in 0..3 {
        step(plan, Stage::StandardStreams, || match plan.has(flags::CRUN) {
            true => own_with_group(stream, header.uid, header.gid),
            false => own(stream, header.uid),
        });
    }
    if plan.has(flags::SET_GROUPS) {
        step(plan, Stage::Groups, || call::set_groups(plan.slice(header.groups)));
    }
    step(plan, Stage::Gid, || call::plain(Plain::SetGid, [header.gid]));
    step(plan, Stage::Uid, || call::plain(Plain::SetUid, [header.uid]));
}

/// Lets a process that is not root open `/dev/stdout` again. The null device is everybody's.
fn own(stream: i32, uid: u32) -> Result<()> {
    let state = call::state(stream, None)?;
    let null = state.mode & S_IFMT == S_IFCHR && (state.rdev_major, state.rdev_minor) == (1, 3);
    if null || state.uid == uid {
        return Ok(());
    }
    give(stream, uid, state.gid)
}

/// As crun does. Devices are nobody's to give away: crun 1.8 still did that to the host's
/// `/dev/null`.
fn own_with_group(stream: i32, uid: u32, gid: u32) -> Result<()> {
    let state = call::state(stream, None)?;
    if matches!(state.mode & S_IFMT, S_IFCHR | S_IFBLK) {
        return Ok(());
    }
    give(stream, uid, gid)
}

fn give(stream: i32, uid: u32, gid: u32) -> Result<()> {
    // Not mapped in this user namespace, or on a read-only /dev: then it stays whose it is.
    let harmless = [errno::EINVAL, errno::EPERM, errno::EROFS];
    call::change_owner(stream, uid, gid).tolerate(&harmless)
}

/// The path may lead out of the container through a descriptor of the host that leaked
/// (CVE-2024-21626): the kernel then has no name for it.
pub(crate) fn check_directory(plan: &Plan<'_>, directory: Directory, buffer: &mut [u8]) {
    if directory == Directory::Later {
        let cwd = plan.string(plan.header().cwd);
        step(plan, Stage::WorkingDirectory, || call::change_directory(cwd));
    }
    reach(plan, Stage::CwdOutside);
    match call::working_directory(buffer) {
        Ok([b'/', ..]) => {}
        Ok(_) => fail(Stage::CwdOutside, Errno(errno::ENOENT), b""),
        Err(error) => fail(Stage::CwdOutside, error, b""),
    }
}
