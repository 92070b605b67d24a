// SPDX-License-Identifier: Apache-2.0
//! Doing many things, some at a time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Result, anyhow};

/// Calls `work` with each number below `total`, from `threads` threads, and returns what it made
/// in no particular order.
///
/// # Errors
/// The first error of `work`; the thread that had it stops, the others go on.
pub fn in_parallel<T: Send>(
    threads: usize,
    total: usize,
    work: impl Fn(usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let run = || {
        let mine = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < total);
        std::iter::from_fn(mine).map(&work).collect::<Result<Vec<T>>>()
    };
    thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Result<Vec<T>>>| {
            thread.join().map_err(|_| anyhow!("a thread panicked"))?
        };
        Ok(all.into_iter().map(join).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    })
}
