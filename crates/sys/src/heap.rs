// SPDX-License-Identifier: Apache-2.0
//! Leaving the heap out of a fork.

use std::fs;
use std::io;

use libc::{c_int, c_void};

/// The part of the heap that a child between fork and exec has no use for.
///
/// fork(2) copies the page tables of all memory that was written to, and after it each page that
/// the parent writes to again costs a page fault: together as much as the rest of starting a small
/// program. A child that only executes a program needs its stack, static data and thread-local
/// storage, but not what was allocated.
#[derive(Debug, Clone, Copy)]
pub struct Heap {
    start: usize,
}

impl Heap {
    /// Of this process, whose thread-local storage may be in it: in a static program that of the
    /// first thread is at its beginning.
    ///
    /// # Errors
    /// `/proc/self/stat` cannot be read or understood.
    pub fn own() -> io::Result<Heap> {
        // Field 47 of proc_pid_stat(5), `start_brk`. The name in field 2 may hold anything.
        let stat = fs::read_to_string("/proc/self/stat")?;
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let start = fields.split_whitespace().nth(47 - 3).and_then(|field| field.parse().ok());
        let start: usize = start.ok_or(io::ErrorKind::InvalidData)?;
        // SAFETY: pthread_self takes nothing and cannot fail.
        let thread = usize::try_from(unsafe { libc::pthread_self() });
        let thread = thread.map_err(|_| io::ErrorKind::InvalidData)?;
        // glibc's `struct pthread`, which has the area the kernel writes to for rseq(2), begins
        // there and is less than a page long.
        let first = if (start..end()).contains(&thread) { thread + 2 * PAGE } else { start };
        Ok(Heap { start: first.next_multiple_of(PAGE) })
    }

    /// Runs `fork` without it. No other thread may fork meanwhile.
    pub(crate) fn without<T>(self, fork: impl FnOnce() -> T) -> T {
        let advised = self.advise(libc::MADV_DONTFORK);
        let result = fork();
        if advised {
            self.advise(libc::MADV_DOFORK);
        }
        result
    }

    /// Whether it was taken.
    fn advise(self, advice: c_int) -> bool {
        let length = (end() & !(PAGE - 1)).saturating_sub(self.start);
        let start: *mut c_void = std::ptr::with_exposed_provenance_mut(self.start);
        // SAFETY: this is ours from `start` to the end of the heap, and neither advice changes what
        // this process finds there.
        length > 0 && unsafe { libc::madvise(start, length, advice) } == 0
    }
}

const PAGE: usize = 4096;

/// Where the heap ends.
fn end() -> usize {
    // SAFETY: an increment of 0 changes nothing.
    unsafe { libc::sbrk(0) }.expose_provenance()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heap_lines(key: &str) -> Vec<String> {
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        let mut found = Vec::new();
        for line in maps.lines() {
            if line.contains('-') && !line.contains(':') || line.ends_with("[heap]") {
                inside = line.ends_with("[heap]");
            }
            if inside && line.starts_with(key) {
                found.push(line.to_owned());
            }
        }
        found
    }

    #[test]
    fn a_fork_leaves_it_out_and_later_forks_do_not() {
        let heap = Heap::own().unwrap();
        let kept = vec![7_u8; 64 << 10];
        // `dc`: not copied on fork, proc_pid_smaps(5).
        let without = |line: &String| line.split_whitespace().any(|flag| flag == "dc");
        assert!(!heap_lines("VmFlags").iter().any(without));
        let during = heap.without(|| heap_lines("VmFlags"));
        assert!(during.iter().any(without), "{during:?}");
        assert!(!heap_lines("VmFlags").iter().any(without));
        assert!(kept.iter().all(|byte| *byte == 7));
    }
}
