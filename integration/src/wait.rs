// SPDX-License-Identifier: Apache-2.0
//! Level-triggered waiting: look at a fact until it holds or the time is up.

use std::env;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// How long [`until`] waits: far more than anything here takes, also on a loaded machine.
pub const LIMIT: Duration = Duration::from_secs(15);

/// How many times as long as they say all limits are: `WEDGE_TEST_SLOW`, for emulated machines.
static SLOW: LazyLock<u32> = LazyLock::new(|| {
    env::var("WEDGE_TEST_SLOW").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
});

/// A limit as long as this machine needs it. Those of [`until_for`], of commands and of calls
/// are already.
pub fn scaled(limit: Duration) -> Duration {
    limit * *SLOW
}

/// Waits at most [`LIMIT`] until `look` returns a value. See [`until_for`].
///
/// # Errors
/// The time is up; the message names `what` and the last thing seen.
pub fn until<T>(what: &str, look: impl FnMut() -> Result<T>) -> Result<T> {
    until_for(LIMIT, what, look)
}

/// Calls `look` until it returns a value; an error of `look` says what was seen instead. Waits
/// for the [`scaled`] limit.
///
/// # Errors
/// `limit` is over; the message names `what` and the last error of `look`.
pub fn until_for<T>(limit: Duration, what: &str, look: impl FnMut() -> Result<T>) -> Result<T> {
    until_end(Instant::now() + scaled(limit), what, look)
}

/// As [`until_for`], for what has begun already.
pub(crate) fn until_end<T>(
    end: Instant,
    what: &str,
    mut look: impl FnMut() -> Result<T>,
) -> Result<T> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        match look() {
            Ok(value) => return Ok(value),
            Err(seen) if Instant::now() >= end => {
                let waited = end.saturating_duration_since(begun);
                return Err(anyhow!("waited {waited:?} until {what}; last seen: {seen:#}"));
            }
            Err(_) => thread::sleep(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
