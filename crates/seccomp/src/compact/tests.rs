// SPDX-License-Identifier: Apache-2.0
//! Small programs; libseccomp's own are compared in `tests/verdicts`.

use super::*;
use crate::insn::{ARCH, JUMP, LOAD_WORD, NR, RETURN};

const AUDIT: u32 = 0xc000_003e;
const ALLOW: u32 = 0x7fff_0000;
const DENY: u32 = 0x0005_0001;

fn insn(code: u16, jt: u8, jf: u8, k: u32) -> Insn {
    Insn { code, jt, jf, k }
}

fn bytes(program: &[Insn]) -> Vec<u8> {
    program.iter().flat_map(|insn| insn.bytes()).collect()
}

/// Allows the numbers on one architecture, one comparison after the other, as libseccomp does
/// without a tree.
fn linear(numbers: impl Iterator<Item = u32>) -> Vec<Insn> {
    let mut program = vec![
        insn(LOAD_WORD, 0, 0, ARCH),
        insn(JUMP_EQUAL, 1, 0, AUDIT),
        insn(RETURN, 0, 0, 0),
        insn(LOAD_WORD, 0, 0, NR),
    ];
    for number in numbers {
        program.extend([insn(JUMP_EQUAL, 0, 1, number), insn(RETURN, 0, 0, ALLOW)]);
    }
    program.push(insn(RETURN, 0, 0, DENY));
    program
}

fn verdict(program: &[Insn], arch: u32, nr: u32) -> Goal {
    walk(program, arch, nr, &[AUDIT]).unwrap()
}

#[test]
fn ranges_take_the_place_of_numbers() {
    let allowed = |nr: &u32| nr % 97 != 5 && *nr < 400;
    let program = linear((0..500).filter(allowed));
    let compacted = compact(&bytes(&program), &[AUDIT, AUDIT]).unwrap();
    let compacted = Insn::of_program(&compacted);
    assert!(compacted.len() < 30, "{compacted:?}");
    for nr in (0..600).chain([X32_BIT, u32::MAX]) {
        let expected = Goal::Verdict(if allowed(&nr) { ALLOW } else { DENY });
        assert_eq!(verdict(&compacted, AUDIT, nr), expected, "{nr}");
        assert_eq!(verdict(&compacted, AUDIT + 1, nr), Goal::Verdict(0), "{nr}");
    }
}

/// So many ranges that conditional jumps do not reach across.
#[test]
fn long_trees_are_reached_by_jumps() {
    let program = linear((0..3000).filter(|nr| nr % 4 < 2));
    let compacted = compact(&bytes(&program), &[AUDIT]).unwrap();
    let compacted = Insn::of_program(&compacted);
    for nr in 0..3002 {
        let expected = if nr % 4 < 2 && nr < 3000 { ALLOW } else { DENY };
        assert_eq!(verdict(&compacted, AUDIT, nr), Goal::Verdict(expected), "{nr}");
    }
}

#[test]
fn what_looks_at_arguments_stays_as_it_is() {
    let look = [
        insn(LOAD_WORD, 0, 0, 16),
        insn(JUMP_BITS, 0, 1, X32_BIT),
        insn(RETURN, 0, 0, ALLOW),
        insn(RETURN, 0, 0, DENY),
    ];
    let mut program = linear(0..40);
    program.pop();
    program.extend([insn(JUMP_EQUAL, 1, 0, 77), insn(RETURN, 0, 0, DENY)]);
    program.extend(look);
    let compacted = Insn::of_program(&compact(&bytes(&program), &[AUDIT]).unwrap());
    let Goal::Arguments(at) = verdict(&compacted, AUDIT, 77) else { panic!("{compacted:?}") };
    assert_eq!(compacted[at..], look);
    assert_eq!(verdict(&compacted, AUDIT, 78), Goal::Verdict(DENY));
}

#[test]
fn with_a_doubt_the_program_stays() {
    let edit = |at: usize, new: Insn| {
        let mut program = linear((0..9).step_by(3).chain(20..40));
        program[at] = new;
        compact(&bytes(&program), &[AUDIT])
    };
    assert!(edit(3, insn(LOAD_WORD, 0, 0, NR)).is_some());
    let doubts = [
        ("another order of architectures", edit(1, insn(JUMP_GREATER, 1, 0, AUDIT))),
        ("an unknown architecture", edit(1, insn(JUMP_EQUAL, 1, 0, AUDIT + 1))),
        ("bits of a number", edit(4, insn(JUMP_BITS, 0, 1, 0x10))),
        ("arithmetic", edit(4, insn(0x54, 0, 0, 0x10))),
        ("a jump out of it", edit(4, insn(JUMP, 0, 0, 100))),
        ("a jump to where no place is", edit(4, insn(JUMP, 0, 0, u32::MAX))),
        ("no end", compact(&bytes(&linear(0..40)[..5]), &[AUDIT])),
        ("nothing", compact(&[], &[AUDIT])),
    ];
    for (what, result) in doubts {
        assert_eq!(result, None, "{what}");
    }
}
