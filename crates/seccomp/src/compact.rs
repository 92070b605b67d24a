// SPDX-License-Identifier: Apache-2.0
//! The same verdicts by fewer instructions.
//!
//! The kernel runs a new filter for every system call of every ABI to learn which ones it always
//! allows (`seccomp_cache_prepare` of kernel/seccomp.c), and translates it to machine code: loading
//! libseccomp's program takes longer than the rest of an exec's set-up. Most of it asks number by
//! number what is the same for whole ranges of them. Here the program is asked what it says to each
//! range, and a balanced tree of the ranges is put in its place. What looks at arguments is kept as
//! libseccomp wrote it.
//!
//! Nothing is taken on trust: the result is asked again, for every range on every architecture.
//! With any doubt there is no result, and the program stays as it is.

mod emit;
mod walk;

use std::collections::BTreeSet;

use crate::insn::{Insn, JUMP_BITS, JUMP_EQUAL, JUMP_GREATER, JUMP_NOT_LESS, X32_BIT};

use self::emit::emit;
use self::walk::{Goal, walk};

/// What a program says to the calls of one architecture: each range begins where its number says
/// and ends before the next.
#[derive(Debug, PartialEq, Eq)]
struct Ranges(Vec<(u32, Goal)>);

/// A shorter program with the verdicts of `program`, if one is found. `audits` are the architectures it
/// knows.
pub(crate) fn compact(program: &[u8], audits: &[u32]) -> Option<Vec<u8>> {
    let program = Insn::of_program(program);
    let cuts = cuts(&program)?;
    let archs = Archs::new(&program, audits)?;
    let ranges = archs.ranges(&program, &cuts)?;
    let (compacted, moved) = emit(&program, &archs.audits, &ranges)?;
    // The same question to both: where one looks at arguments, the other has to look with the same
    // instructions.
    let now = archs.ranges(&compacted, &cuts)?;
    let expected = ranges.into_iter().map(|ranges| ranges.moved(&moved));
    let same = expected.zip(&now).all(|(then, now)| then.as_ref() == Some(now));
    (same && compacted.len() < program.len())
        .then(|| compacted.into_iter().flat_map(Insn::bytes).collect())
}

impl Ranges {
    /// With the places of another program.
    fn moved(self, places: &[Option<usize>]) -> Option<Ranges> {
        let moved = self.0.into_iter().map(|(start, goal)| match goal {
            Goal::Verdict(_) => Some((start, goal)),
            Goal::Arguments(place) => Some((start, Goal::Arguments((*places.get(place)?)?))),
        });
        moved.collect::<Option<_>>().map(Ranges)
    }
}

/// Every number at which an answer may change: between two of them no comparison of the program
/// can tell one number from another.
fn cuts(program: &[Insn]) -> Option<BTreeSet<u32>> {
    let mut cuts = BTreeSet::from([0]);
    for insn in program {
        match insn.code {
            JUMP_EQUAL | JUMP_GREATER | JUMP_NOT_LESS => {
                cuts.insert(insn.k);
                cuts.extend(insn.k.checked_add(1));
            }
            JUMP_BITS if insn.k == X32_BIT => cuts.extend((1..4).map(|part| part * X32_BIT)),
            JUMP_BITS => return None,
            _ => {}
        }
    }
    Some(cuts)
}

/// The architectures a program may tell from each other.
struct Archs {
    audits: Vec<u32>,
    /// One that it has never heard of.
    other: u32,
}

impl Archs {
    fn new(program: &[Insn], audits: &[u32]) -> Option<Archs> {
        let mut known = Vec::new();
        for audit in audits {
            if !known.contains(audit) {
                known.push(*audit);
            }
        }
        let named: BTreeSet<u32> = program.iter().map(|insn| insn.k).chain(known.clone()).collect();
        let other = (0..=u32::MAX).find(|audit| !named.contains(audit))?;
        Some(Archs { audits: known, other })
    }

    /// What `program` says on each of them, and last on all others.
    fn ranges(&self, program: &[Insn], cuts: &BTreeSet<u32>) -> Option<Vec<Ranges>> {
        let on = |arch: &u32| {
            let mut ranges: Vec<(u32, Goal)> = Vec::new();
            for start in cuts {
                let goal = walk(program, *arch, *start, &self.audits)?;
                if ranges.last().is_none_or(|(_, last)| *last != goal) {
                    ranges.push((*start, goal));
                }
            }
            Some(Ranges(ranges))
        };
        self.audits.iter().chain([&self.other]).map(on).collect()
    }
}

#[cfg(test)]
mod tests;
