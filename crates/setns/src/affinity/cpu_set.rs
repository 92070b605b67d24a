// SPDX-License-Identifier: Apache-2.0
//! A set of CPUs of any width, and the two ways to write one down.

mod list;
#[cfg(test)]
mod tests;

use std::fmt;

pub use list::{ListError, MAX_CPU};

/// The width of a word.
const BITS: usize = 64;

/// How many words [`CpuSet::all`] has: 8192 CPUs, the most `NR_CPUS` can be (arch/x86/Kconfig).
/// `cpu_set_t` ends at 1024, and a reset by one takes all higher CPUs away.
const ALL_WORDS: usize = 8192 / BITS;

/// A set of CPUs. The highest word is not zero, so equal sets compare equal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuSet {
    words: Vec<u64>,
}

impl CpuSet {
    /// Takes a mask: bit 0 of the first word is CPU 0.
    pub fn from_words(words: &[u64]) -> CpuSet {
        let mut words = words.to_vec();
        while words.last() == Some(&0) {
            words.pop();
        }
        CpuSet { words }
    }

    /// One CPU.
    pub fn single(cpu: usize) -> CpuSet {
        let mut set = CpuSet::default();
        set.insert_range(cpu, cpu);
        set
    }

    /// Every CPU there may be. sched_setaffinity(2) takes a mask of more CPUs than the machine has
    /// and clamps it to the cpuset, so nobody needs to know either.
    pub fn all() -> CpuSet {
        CpuSet { words: vec![u64::MAX; ALL_WORDS] }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Whether `cpu` is in it.
    pub fn contains(&self, cpu: usize) -> bool {
        self.words.get(cpu / BITS).is_some_and(|word| (word >> (cpu % BITS)) & 1 == 1)
    }

    /// The CPUs in it, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.words.iter().enumerate().flat_map(|(index, word)| {
            (0..BITS).filter(move |bit| (word >> bit) & 1 == 1).map(move |bit| index * BITS + bit)
        })
    }

    /// The lowest CPU in it.
    pub fn lowest(&self) -> Option<usize> {
        self.iter().next()
    }

    /// Whether a CPU is in both.
    pub fn intersects(&self, other: &CpuSet) -> bool {
        self.words.iter().zip(&other.words).any(|(a, b)| a & b != 0)
    }

    /// The CPUs that are in this and not in `other`.
    pub fn difference(&self, other: &CpuSet) -> CpuSet {
        let others = other.words.iter().copied().chain(std::iter::repeat(0));
        let words: Vec<u64> = self.words.iter().zip(others).map(|(a, b)| a & !b).collect();
        CpuSet::from_words(&words)
    }

    /// The mask as sched_setaffinity(2) takes it, in words of 64 bits. These are little endian
    /// where the machine is.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    /// Adds the CPUs from `start` to `end`, both included; none when `end` is the smaller.
    fn insert_range(&mut self, start: usize, end: usize) {
        if start > end {
            return;
        }
        if self.words.len() <= end / BITS {
            self.words.resize(end / BITS + 1, 0);
        }
        let touched = end / BITS - start / BITS + 1;
        for (index, word) in self.words.iter_mut().enumerate().skip(start / BITS).take(touched) {
            let first = index * BITS;
            let low = start.saturating_sub(first);
            let high = (end - first).min(BITS - 1);
            *word |= (u64::MAX << low) & (u64::MAX >> (BITS - 1 - high));
        }
    }
}

/// A list as the kernel and [`CpuSet::parse_list`] read it: `0-3,7`.
impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.iter().peekable();
        let mut separator = "";
        while let Some(start) = cpus.next() {
            let mut end = start;
            while let Some(next) = cpus.next_if_eq(&(end + 1)) {
                end = next;
            }
            write!(f, "{separator}{start}")?;
            if end > start {
                write!(f, "-{end}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}
