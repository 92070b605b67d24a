// SPDX-License-Identifier: Apache-2.0
//! Runs a program as far as the number and the architecture of a call decide.

use crate::insn::{
    ARCH, Insn, JUMP, JUMP_BITS, JUMP_EQUAL, JUMP_GREATER, JUMP_NOT_LESS, LOAD_WORD, NR, RETURN,
};

/// Where a call ends up whose arguments are not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Goal {
    /// Whatever they are, this is the verdict.
    Verdict(u32),
    /// They matter from this instruction on, which loads something else.
    Arguments(usize),
}

/// Follows `program` for a call. `None` when it does something libseccomp does not, or compares the
/// architecture with one that is not in `audits` or in another way than by equality: then one
/// architecture cannot stand for others.
pub(super) fn walk(program: &[Insn], arch: u32, nr: u32, audits: &[u32]) -> Option<Goal> {
    let (mut at, mut accumulator, mut is_arch) = (0_usize, 0, false);
    loop {
        let insn = program.get(at)?;
        at += 1;
        if is_arch && is_test(insn.code) && !(insn.code == JUMP_EQUAL && audits.contains(&insn.k)) {
            return None;
        }
        let step = |met: bool| usize::from(if met { insn.jt } else { insn.jf });
        // Jumps go forwards only, so this ends.
        match insn.code {
            LOAD_WORD if insn.k == NR => (accumulator, is_arch) = (nr, false),
            LOAD_WORD if insn.k == ARCH => (accumulator, is_arch) = (arch, true),
            LOAD_WORD => return Some(Goal::Arguments(at - 1)),
            JUMP => at = at.checked_add(usize::try_from(insn.k).ok()?)?,
            JUMP_EQUAL => at += step(accumulator == insn.k),
            JUMP_GREATER => at += step(accumulator > insn.k),
            JUMP_NOT_LESS => at += step(accumulator >= insn.k),
            JUMP_BITS => at += step(accumulator & insn.k != 0),
            RETURN => return Some(Goal::Verdict(insn.k)),
            _ => return None,
        }
    }
}

pub(super) fn is_test(code: u16) -> bool {
    matches!(code, JUMP_EQUAL | JUMP_GREATER | JUMP_NOT_LESS | JUMP_BITS)
}
