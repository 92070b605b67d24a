// SPDX-License-Identifier: Apache-2.0
//! Writes a program that finds ranges by a tree.
//!
//! Jumps go forwards and conditional ones 255 instructions at most, so it is written from its end:
//! where a jump leads is then known.

use std::collections::HashMap;

use crate::insn::{ARCH, Insn, JUMP, JUMP_EQUAL, JUMP_NOT_LESS, LOAD_WORD, NR, RETURN};

use super::Ranges;
use super::walk::{Goal, is_test};

/// A verdict farther away than this is written again: a jump to it would be as long.
const NEAR: usize = 200;

/// The program, and for each instruction of `program` that is part of it, its new place. `ranges`
/// has one entry for each of `audits` and one for all others.
pub(super) fn emit(
    program: &[Insn],
    audits: &[u32],
    ranges: &[Ranges],
) -> Option<(Vec<Insn>, Vec<Option<usize>>)> {
    let mut writer = Writer::default();
    let kept = writer.keep(program, &reachable(program, ranges)?)?;
    let (others, known) = ranges.split_last()?;
    let mut next = writer.search(&others.0, &kept)?;
    let trees = known.iter().map(|ranges| writer.search(&ranges.0, &kept));
    let trees: Vec<usize> = trees.collect::<Option<_>>()?;
    for (audit, tree) in audits.iter().zip(trees).rev() {
        next = writer.test(JUMP_EQUAL, *audit, tree, next)?;
    }
    writer.jump_unless_next(next)?;
    writer.push(Insn::plain(LOAD_WORD, ARCH));
    let length = writer.reversed.len();
    let places = kept.into_iter().map(|at| at.map(|at| length - 1 - at)).collect();
    writer.reversed.reverse();
    Some((writer.reversed, places))
}

/// Which instructions are run when arguments matter.
fn reachable(program: &[Insn], ranges: &[Ranges]) -> Option<Vec<bool>> {
    let mut reached = vec![false; program.len()];
    for (_, goal) in ranges.iter().flat_map(|ranges| &ranges.0) {
        if let Goal::Arguments(at) = goal {
            *reached.get_mut(*at)? = true;
        }
    }
    for (at, insn) in program.iter().enumerate() {
        if reached.get(at) == Some(&true) {
            for next in successors(at, *insn)? {
                *reached.get_mut(next)? = true;
            }
        }
    }
    Some(reached)
}

/// Where the program may go on after the instruction at `at`.
fn successors(at: usize, insn: Insn) -> Option<Vec<usize>> {
    Some(match insn.code {
        RETURN => Vec::new(),
        JUMP => vec![at.checked_add(1)?.checked_add(usize::try_from(insn.k).ok()?)?],
        code if is_test(code) => vec![at + 1 + usize::from(insn.jt), at + 1 + usize::from(insn.jf)],
        _ => vec![at + 1],
    })
}

/// Instructions from the last to the first. Places are counted from the end, so that they stay
/// while more is put in front.
#[derive(Default)]
struct Writer {
    reversed: Vec<Insn>,
    verdicts: HashMap<u32, usize>,
}

impl Writer {
    /// Puts an instruction in front; its place.
    fn push(&mut self, insn: Insn) -> usize {
        self.reversed.push(insn);
        self.reversed.len() - 1
    }

    /// How many instructions are between the one that is put in front next, and `target`.
    fn distance(&self, target: usize) -> Option<usize> {
        self.reversed.len().checked_sub(target + 1)
    }

    /// Copies the instructions that are `kept`, in their order; their places.
    fn keep(&mut self, program: &[Insn], kept: &[bool]) -> Option<Vec<Option<usize>>> {
        let mut places = vec![None; program.len()];
        for (at, insn) in program.iter().enumerate().rev() {
            if kept.get(at) != Some(&true) {
                continue;
            }
            let next = successors(at, *insn)?.into_iter();
            let next = next.map(|next| self.distance((*places.get(next)?)?));
            let next: Vec<usize> = next.collect::<Option<_>>()?;
            let mut copy = *insn;
            match next.as_slice() {
                [to] if insn.code == JUMP => copy.k = u32::try_from(*to).ok()?,
                [yes, no] => {
                    (copy.jt, copy.jf) = (u8::try_from(*yes).ok()?, u8::try_from(*no).ok()?);
                }
                [] | [0] => {}
                _ => return None,
            }
            *places.get_mut(at)? = Some(self.push(copy));
        }
        Some(places)
    }

    /// What finds the range of a number; its place.
    fn search(&mut self, ranges: &[(u32, Goal)], kept: &[Option<usize>]) -> Option<usize> {
        let tree = self.tree(ranges, kept)?;
        if ranges.len() < 2 {
            return Some(tree);
        }
        self.jump_unless_next(tree)?;
        Some(self.push(Insn::plain(LOAD_WORD, NR)))
    }

    fn tree(&mut self, ranges: &[(u32, Goal)], kept: &[Option<usize>]) -> Option<usize> {
        match ranges {
            [] => None,
            [(_, Goal::Verdict(verdict))] => Some(self.verdict(*verdict)),
            [(_, Goal::Arguments(at))] => *kept.get(*at)?,
            _ => {
                let (low, high) = ranges.split_at(ranges.len() / 2);
                let (first, _) = *high.first()?;
                let high = self.tree(high, kept)?;
                let low = self.tree(low, kept)?;
                self.test(JUMP_NOT_LESS, first, high, low)
            }
        }
    }

    fn verdict(&mut self, verdict: u32) -> usize {
        match self.verdicts.get(&verdict) {
            Some(at) if self.reversed.len() - at < NEAR => *at,
            _ => {
                let at = self.push(Insn::plain(RETURN, verdict));
                self.verdicts.insert(verdict, at);
                at
            }
        }
    }

    fn test(&mut self, code: u16, k: u32, yes: usize, no: usize) -> Option<usize> {
        // Room for the other one's jump.
        let yes = self.within(yes, 1)?;
        let no = self.within(no, 0)?;
        let jt = u8::try_from(self.distance(yes)?).ok()?;
        let jf = u8::try_from(self.distance(no)?).ok()?;
        Some(self.push(Insn { code, jt, jf, k }))
    }

    /// A place from which `target` is reached, and that a test can reach `more` instructions on.
    fn within(&mut self, target: usize, more: usize) -> Option<usize> {
        let distance = self.distance(target)?;
        if distance + more <= usize::from(u8::MAX) {
            return Some(target);
        }
        Some(self.push(Insn::plain(JUMP, u32::try_from(distance).ok()?)))
    }

    /// Goes on at `target`.
    fn jump_unless_next(&mut self, target: usize) -> Option<()> {
        let distance = self.distance(target)?;
        if distance > 0 {
            self.push(Insn::plain(JUMP, u32::try_from(distance).ok()?));
        }
        Some(())
    }
}
