// SPDX-License-Identifier: Apache-2.0
//! The instructions runc puts in front of libseccomp's: `ENOSYS` for system calls newer than the
//! profile (runc's libcontainer/seccomp/patchbpf/enosys_linux.go).
//!
//! A libc tries a new system call first and an older one on `ENOSYS`; the `EPERM` of a profile that
//! had never heard of the new one would be taken for an answer. So whatever has a higher number
//! than any call the profile names for that ABI does not exist.

use libseccomp::{ScmpArch, ScmpSyscall};

use crate::arch::{AUDIT_X86_64, Arch};
use crate::insn::{
    ARCH, Insn, JUMP, JUMP_BITS, JUMP_EQUAL, JUMP_GREATER, LOAD_WORD, NR, RETURN, X32_BIT,
};
use crate::profile::Rule;

/// The result, linux/seccomp.h.
const RET_ENOSYS: u32 = 0x0005_0000 | 38;

/// The instructions, to be followed by the filter's own. Not for permissive defaults
/// ([`crate::profile::is_permissive`]).
pub(crate) fn stub(archs: &[Arch], rules: &[Rule]) -> Vec<u8> {
    let mut sections: Vec<Vec<Insn>> = Vec::new();
    let mut done = Vec::new();
    for arch in archs {
        if !done.contains(&arch.audit) {
            done.push(arch.audit);
            sections.push(section(arch.audit, archs, rules));
        }
    }
    let mut after: u32 = sections.iter().map(|section| len(section)).sum();
    let mut insns = vec![load(ARCH)];
    for section in sections {
        after -= len(&section);
        insns.extend(section.into_iter().map(|insn| moved_by(insn, after)));
    }
    insns.into_iter().flat_map(Insn::bytes).collect()
}

/// For one audit architecture: jumps over itself if it is another one.
fn section(audit: u32, archs: &[Arch], rules: &[Rule]) -> Vec<Insn> {
    let largest = |x32: bool| {
        let mut members = archs.iter().filter(|arch| arch.audit == audit);
        let member = members.find(|arch| (arch.scmp == ScmpArch::X32) == x32);
        // No number is greater than this: without a known name the filter decides alone.
        member.and_then(|arch| largest_number(arch.scmp, rules)).unwrap_or(u32::MAX)
    };
    if audit == AUDIT_X86_64 {
        vec![
            test(JUMP_EQUAL, audit, 0, 6),
            load(NR),
            test(JUMP_BITS, X32_BIT, 1, 0),
            test(JUMP_GREATER, largest(false), 1, 2),
            test(JUMP_GREATER, largest(true), 0, 1),
            Insn::plain(RETURN, RET_ENOSYS),
            Insn::plain(JUMP, 0),
        ]
    } else {
        vec![
            test(JUMP_EQUAL, audit, 0, 4),
            load(NR),
            test(JUMP_GREATER, largest(false), 0, 1),
            Insn::plain(RETURN, RET_ENOSYS),
            Insn::plain(JUMP, 0),
        ]
    }
}

/// The largest number named in the profile. Skipped rules count; numbers below zero, which
/// libseccomp gives to calls this ABI does not have of its own, do not.
fn largest_number(arch: ScmpArch, rules: &[Rule]) -> Option<u32> {
    let numbers = rules.iter().filter_map(|rule| {
        let syscall = ScmpSyscall::from_name_by_arch(&rule.name, arch).ok()?;
        u32::try_from(syscall.as_raw_syscall()).ok()
    });
    // As in runc, where 0 means that there was none.
    numbers.max().filter(|number| *number != 0)
}

/// With `distance` instructions more between the end of its section and the filter.
fn moved_by(insn: Insn, distance: u32) -> Insn {
    if insn.code == JUMP { Insn { k: insn.k + distance, ..insn } } else { insn }
}

fn load(offset: u32) -> Insn {
    Insn::plain(LOAD_WORD, offset)
}

fn test(code: u16, k: u32, jt: u8, jf: u8) -> Insn {
    Insn { code, jt, jf, k }
}

fn len(section: &[Insn]) -> u32 {
    section.iter().map(|_| 1).sum()
}
