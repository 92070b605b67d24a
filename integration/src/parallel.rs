// SPDX-License-Identifier: Apache-2.0
//! Doing many things, some at a time.

use std::env;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Result, anyhow};

/// How often to do what might succeed once by luck: `usual` times, five times as often with
/// `WEDGE_LONG=1`, a fourth of it on an emulated machine (`WEDGE_TEST_SLOW`).
pub fn rounds(usual: usize) -> usize {
    let set = |name| env::var_os(name).is_some();
    match (set("WEDGE_LONG"), set("WEDGE_TEST_SLOW")) {
        (true, _) => usual * 5,
        (false, true) => usual.div_ceil(4),
        (false, false) => usual,
    }
}

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
